"""The life of sessions: create, list, append and replay, fork, truncate, compress, delete."""

import grpc
import numpy as np
import pytest
from api import DTYPES, error_info, error_of, to_bytes
from reference import attention, relative_error
from test_attention import tokens


def status_of(client, session, position, keys, values, layers=(0,), revision=None):
    item = client.append_item(session, position, keys, layers)
    item.revision = revision or session.revision
    return client.attention.Append(client.pb.attention.AppendRequest(
        dtype=DTYPES["f16"], items=[item], keys=to_bytes(keys, "f16"), values=to_bytes(values, "f16"))).results[0]


def test_names_codecs_and_defaults(client):
    session = client.create("chat-17", layers=3)
    assert session.name == "sessions/chat-17"
    assert (session.codec.preset, session.codec.keys.kept, session.codec.keys.bits) == ("balanced", 19, 4)
    assert session.revision == 1 and session.length == 0 and list(session.layer_lengths) == [0, 0, 0]
    assert session.recent_window == 64 and session.shard == "chat-17"
    assert client.get("sessions/chat-17") == session
    custom = client.create(codec=((7, 8), (64, 2)))
    assert custom.codec.preset == "custom"
    assert custom.name.startswith("sessions/") and len(custom.name) > 20
    default = client.sessions.CreateSession(client.pb.session.CreateSessionRequest(
        model_shape=dict(num_layers=1, num_query_heads=1, num_kv_heads=1, head_dim=128))).session
    assert default.codec.preset == "balanced"
    for name in (session.name, custom.name, default.name):
        client.delete(name)


def test_list_pages_in_order(client):
    names = sorted(client.create(f"page-{i:02}").name for i in range(23))
    seen, token, pages = [], "", 0
    while True:
        page = client.sessions.ListSessions(client.pb.session.ListSessionsRequest(page_size=5, page_token=token))
        seen += [session.name for session in page.sessions]
        token, pages = page.next_page_token, pages + 1
        if not token:
            break
    assert [name for name in seen if "page-" in name] == names and pages == 5
    for name in names:
        client.delete(name)


def test_replays_and_conflicts(client):
    rng = np.random.default_rng(1)
    keys, values = tokens(rng, 10)
    session = client.create(layers=2)
    client.append(session, 0, keys, values, layers=(0,))
    again = client.append(session, 0, keys, values, layers=(0,))
    assert again.replayed and again.position == 10
    assert client.append(session, 3, keys[:5], values[:5]).replayed

    for position in (1, 9, 11):
        result = status_of(client, session, position, keys, values)
        info = error_info(result.status)
        assert result.status.code == 10 and info.reason == "POSITION_CONFLICT"
        assert info.metadata["layer_0_position"] == "10" and info.metadata["revision"] == "1"
    both = np.stack([keys, keys])
    result = status_of(client, session, 0, both, both, layers=(0, 1))
    info = error_info(result.status)
    assert result.status.code == 10 and info.metadata["layer_0_position"] == "10"
    assert info.metadata["layer_1_position"] == "0", "layers that differ are neither a retry nor an append"
    stale = status_of(client, session, 10, keys, values, revision=2)
    assert stale.status.code == 10 and error_info(stale.status).reason == "REVISION_CONFLICT"
    assert list(client.get(session.name).layer_lengths) == [10, 0]
    client.delete(session.name)


def test_appends_of_many_layers_and_sessions(client):
    rng = np.random.default_rng(2)
    one, two = client.create(layers=3), client.create(layers=1)
    keys, values = tokens(rng, 3 * 70 + 5)
    layered = keys[:210].reshape(3, 70, 2, 64)
    layered_values = values[:210].reshape(3, 70, 2, 64)
    response = client.attention.Append(client.pb.attention.AppendRequest(
        dtype=DTYPES["f16"],
        items=[client.append_item(one, 0, layered, (2, 0, 1)), client.append_item(two, 0, keys[210:])],
        keys=to_bytes(keys, "f16"), values=to_bytes(values, "f16")))
    assert [result.status.code for result in response.results] == [0, 0]
    queries = rng.standard_normal((1, 4, 64)).astype(np.float32)
    for index, layer in enumerate((2, 0, 1)):
        output, _ = client.attend(one, queries, layer)
        assert relative_error(output, attention(queries, layered[index], layered_values[index])[0]) < 1e-3
    assert client.get(one.name).length == 70 and client.get(two.name).length == 5
    client.delete(one.name), client.delete(two.name)


def test_forks_share_memory_and_then_part(client, server):
    rng = np.random.default_rng(3)
    keys, values = tokens(rng, 1000)
    before = server.metric("kvattend_kv_bytes")
    source = client.create("trunk", recent_window=20)
    client.append(source, 0, keys, values)
    alone = server.metric("kvattend_kv_bytes") - before
    fork = client.fork(source.name, "branch")
    assert fork.revision == 1 and fork.length == 1000 and fork.shard == "trunk"
    assert server.metric("kvattend_kv_bytes") - before == alone, "a fork copies nothing"
    assert server.metric("kvattend_kv_dense_bytes") >= 2 * 1000 * 2 * 64 * 4

    queries = rng.standard_normal((1, 4, 64)).astype(np.float32)
    original = client.attend(source, queries)
    more_keys, more_values = tokens(rng, 100)
    client.append(fork, 1000, more_keys, more_values)
    assert client.attend(source, queries)[0].tobytes() == original[0].tobytes()
    straight = client.create(recent_window=20)
    client.append(straight, 0, np.concatenate([keys, more_keys]), np.concatenate([values, more_values]))
    assert client.attend(fork, queries)[0].tobytes() == client.attend(straight, queries)[0].tobytes()

    client.delete(source.name)
    assert client.attend(fork, queries)[0].tobytes() == client.attend(straight, queries)[0].tobytes()
    client.delete(fork.name), client.delete(straight.name)
    assert server.metric("kvattend_kv_bytes") == before


def test_truncate(client):
    rng = np.random.default_rng(4)
    keys, values = tokens(rng, 300)
    session = client.create(codec="int8", recent_window=40)
    client.append(session, 0, keys, values)
    # (300 - 40) // 64 = 4 blocks: 256 coded tokens, 44 exact ones.
    for length in (299, 270, 256, 128, 0):
        answer = client.truncate(session.name, length)
        session = answer.session
        assert session.length == length and list(session.layer_lengths) == [length]
        if length > 128:
            with pytest.raises(grpc.RpcError) as failure:
                client.truncate(session.name, 200)
            code, info, _ = error_of(failure.value)
            assert (code, info.reason) == ("FAILED_PRECONDITION", "TRUNCATE_INSIDE_BLOCK")
            assert (info.metadata["nearest_below"], info.metadata["nearest_above"]) == ("192", "256")
    assert session.revision == 6 and session.stored_bytes == 0
    with pytest.raises(grpc.RpcError) as failure:
        client.truncate(session.name, 1)
    assert error_of(failure.value)[:1] == ("OUT_OF_RANGE",)
    client.delete(session.name)


def test_truncate_then_append_equals_never_having_appended(client):
    rng = np.random.default_rng(5)
    keys, values = tokens(rng, 300)
    queries = rng.standard_normal((1, 4, 64)).astype(np.float32)
    cut = client.create(codec="fp16", recent_window=64)
    client.append(cut, 0, keys[:150], values[:150])
    cut = client.truncate(cut.name, 77).session
    client.append(cut, 77, keys[77:], values[77:])
    straight = client.create(codec="fp16", recent_window=64)
    client.append(straight, 0, keys, values)
    assert client.attend(cut, queries)[0].tobytes() == client.attend(straight, queries)[0].tobytes()
    client.delete(cut.name), client.delete(straight.name)


def test_compress_session(client, server):
    rng = np.random.default_rng(6)
    keys, values = tokens(rng, 500)
    queries = rng.standard_normal((1, 4, 64)).astype(np.float32)
    session = client.create(codec="int8", recent_window=200)
    client.append(session, 0, keys, values)
    used = server.metric("kvattend_kv_bytes")
    answer = client.compress(session.name, keep_exact=0)
    # 500 tokens are 7 whole blocks and 52 exact tokens.
    assert answer.freed_bytes > 0 and used - server.metric("kvattend_kv_bytes") == answer.freed_bytes
    assert answer.session.revision == 2
    direct = client.create(codec="int8", recent_window=0)
    client.append(direct, 0, keys, values)
    assert client.attend(session, queries)[0].tobytes() == client.attend(direct, queries)[0].tobytes()
    assert answer.session.stored_bytes == client.get(direct.name).stored_bytes

    smaller = client.compress(session.name, codec="sparse50-int4")
    assert smaller.freed_bytes > 0 and smaller.session.codec.preset == "sparse50-int4"
    assert smaller.session.revision == 3
    with pytest.raises(grpc.RpcError) as failure:
        client.compress(session.name, codec="int8")
    code, info, _ = error_of(failure.value)
    assert (code, info.reason) == ("INVALID_ARGUMENT", "CODEC_NOT_SMALLER")
    client.delete(session.name), client.delete(direct.name)


def test_memory_saved_is_what_the_codec_promises(client, server):
    """2,496 + 2,176 bytes a block and KV head for balanced at head_dim 128, against 32,768."""
    rng = np.random.default_rng(7)
    keys, values = tokens(rng, 6400, 8, 128)
    session = client.create(query_heads=8, kv_heads=8, head_dim=128, recent_window=0)
    client.append(session, 0, keys, values)
    session = client.get(session.name)
    assert session.dense_bytes == 6400 * 8 * 128 * 4
    assert 100 * 8 * 4672 <= session.stored_bytes <= 100 * 8 * 4672 * 1.02
    client.delete(session.name)


def test_shards(client):
    session = client.create(metadata=[("x-kvattend-shard", "replica-3")])
    assert session.shard == "replica-3"
    fork = client.fork(session.name)
    assert fork.shard == "replica-3"
    request = client.pb.session.GetSessionRequest(name=fork.name)
    assert client.sessions.GetSession(request, metadata=[("x-kvattend-shard", "replica-3")]).session == fork
    with pytest.raises(grpc.RpcError) as failure:
        client.sessions.GetSession(request, metadata=[("x-kvattend-shard", "replica-4")])
    code, info, _ = error_of(failure.value)
    assert (code, info.reason) == ("FAILED_PRECONDITION", "WRONG_SHARD")
    client.delete(session.name), client.delete(fork.name)
