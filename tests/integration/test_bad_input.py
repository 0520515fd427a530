"""Bad input gets a code, a reason and a field, and changes nothing."""

import grpc
import numpy as np
import pytest
from api import DTYPES, bad_field, error_info, error_of, to_bytes
from test_attention import tokens


@pytest.fixture(scope="module")
def session(client):
    rng = np.random.default_rng(0)
    session = client.create("victim", layers=2, recent_window=0)
    keys, values = tokens(rng, 100)
    client.append(session, 0, keys, values)
    yield client.get(session.name)
    client.delete(session.name)


@pytest.fixture(autouse=True)
def nothing_changed(client, server, session):
    """Around every test of this file: the same sessions, the same bytes."""
    def state():
        listing = client.sessions.ListSessions(client.pb.session.ListSessionsRequest(page_size=1000))
        return listing.SerializeToString(), server.metric("kvattend_kv_bytes")
    before = state()
    yield
    assert state() == before


def refused(call):
    with pytest.raises(grpc.RpcError) as failure:
        call()
    code, info, status = error_of(failure.value)
    assert info is not None and info.domain == "kvattend", failure.value
    return code, info.reason, bad_field(status)


SHAPE = dict(num_layers=1, num_query_heads=4, num_kv_heads=2, head_dim=64)


@pytest.mark.parametrize("change,field", [
    (dict(model_shape=dict(SHAPE, num_layers=0)), "model_shape.num_layers"),
    (dict(model_shape=dict(SHAPE, num_layers=1025)), "model_shape.num_layers"),
    (dict(model_shape=dict(SHAPE, num_kv_heads=0)), "model_shape.num_kv_heads"),
    (dict(model_shape=dict(SHAPE, num_kv_heads=-1)), "model_shape.num_kv_heads"),
    (dict(model_shape=dict(SHAPE, num_query_heads=5)), "model_shape.num_query_heads"),
    (dict(model_shape=dict(SHAPE, head_dim=96)), "model_shape.head_dim"),
    (dict(model_shape=None), "model_shape.num_layers"),
    (dict(codec=dict(preset="nonsense")), "codec.preset"),
    (dict(codec=dict(keys=dict(kept=0, bits=4), values=dict(kept=64, bits=4))), "codec.keys.kept"),
    (dict(codec=dict(keys=dict(kept=65, bits=4), values=dict(kept=64, bits=4))), "codec.keys.kept"),
    (dict(codec=dict(keys=dict(kept=64, bits=3), values=dict(kept=64, bits=4))), "codec.keys.bits"),
    (dict(codec=dict(keys=dict(kept=64, bits=4), values=dict(kept=-5, bits=4))), "codec.values.kept"),
    (dict(codec=dict(keys=dict(kept=64, bits=4))), "codec.values"),
    (dict(recent_window=-1), "recent_window"),
    (dict(recent_window=1 << 40), "recent_window"),
    (dict(session_id="a" * (1 << 20)), "session_id"),
    (dict(session_id="../../etc/passwd"), "session_id"),
    (dict(session_id="naïve"), "session_id"),
    (dict(session_id=" "), "session_id"),
    (dict(session_id="-x"), "session_id"),
])
def test_create_session(client, change, field):
    request = client.pb.session.CreateSessionRequest(**{**dict(model_shape=SHAPE), **change})
    code, reason, where = refused(lambda: client.sessions.CreateSession(request))
    assert code == "INVALID_ARGUMENT" and reason and where == field


def test_a_block_over_two_mebibytes_is_refused(client):
    request = client.pb.session.CreateSessionRequest(
        model_shape=dict(num_layers=1, num_query_heads=64, num_kv_heads=64, head_dim=256),
        codec=dict(preset="fp16"))
    assert refused(lambda: client.sessions.CreateSession(request))[0] == "INVALID_ARGUMENT"


def test_a_taken_id(client):
    assert refused(lambda: client.create("victim"))[:2] == ("ALREADY_EXISTS", "SESSION_EXISTS")
    assert refused(lambda: client.fork("sessions/victim", "victim"))[:2] == ("ALREADY_EXISTS", "SESSION_EXISTS")


@pytest.mark.parametrize("name,code,reason", [
    ("sessions/nobody", "NOT_FOUND", "SESSION_NOT_FOUND"),
    ("victim", "INVALID_ARGUMENT", "INVALID_SESSION_NAME"),
    ("", "INVALID_ARGUMENT", "INVALID_SESSION_NAME"),
    ("sessions/", "INVALID_ARGUMENT", "INVALID_SESSION_NAME"),
    ("sessions/a/b", "INVALID_ARGUMENT", "INVALID_SESSION_NAME"),
    ("sessions/a b\n", "INVALID_ARGUMENT", "INVALID_SESSION_NAME"),
    ("sessions/" + "x" * (1 << 20), "INVALID_ARGUMENT", "INVALID_SESSION_NAME"),
])
def test_names(client, name, code, reason):
    for call in (lambda: client.get(name), lambda: client.delete(name), lambda: client.truncate(name, 0),
                 lambda: client.fork(name), lambda: client.compress(name)):
        with pytest.raises(grpc.RpcError) as failure:
            call()
        got, info, status = error_of(failure.value)
        assert (got, info.reason) == (code, reason)
        assert len(status.message) < 1000, "a megabyte is not sent back"


@pytest.mark.parametrize("page", [dict(page_size=-1), dict(page_token="\x00garbage")])
def test_pages(client, page):
    request = client.pb.session.ListSessionsRequest(**page)
    assert refused(lambda: client.sessions.ListSessions(request))[0] == "INVALID_ARGUMENT"


def test_truncate_and_compress(client):
    assert refused(lambda: client.truncate("sessions/victim", -1))[0] == "INVALID_ARGUMENT"
    assert refused(lambda: client.truncate("sessions/victim", 101))[:2] == ("OUT_OF_RANGE", "LENGTH_BEYOND_END")
    assert refused(lambda: client.truncate("sessions/victim", 63))[:2] == (
        "FAILED_PRECONDITION", "TRUNCATE_INSIDE_BLOCK")
    assert refused(lambda: client.compress("sessions/victim", keep_exact=-1))[0] == "INVALID_ARGUMENT"
    assert refused(lambda: client.compress("sessions/victim", codec="fp16"))[:2] == (
        "INVALID_ARGUMENT", "CODEC_NOT_SMALLER")


def append_request(client, session, count=4, session_name=None, **changes):
    rng = np.random.default_rng(1)
    keys, values = tokens(rng, count)
    request = client.pb.attention.AppendRequest(
        dtype=DTYPES["f16"], items=[client.append_item(session, 100, keys)], keys=to_bytes(keys, "f16"),
        values=to_bytes(values, "f16"))
    request.items[0].session = session_name or session.name
    for name, value in changes.items():
        if hasattr(request.items[0], name):
            if name == "layers":
                del request.items[0].layers[:]
                request.items[0].layers.extend(value)
            else:
                setattr(request.items[0], name, value)
        else:
            setattr(request, name, value)
    return request


@pytest.mark.parametrize("changes", [
    dict(dtype=0), dict(dtype=77), dict(keys=b""), dict(keys=b"x"), dict(values=b"12345678"),
    dict(num_tokens=0), dict(num_tokens=-1), dict(num_tokens=5), dict(num_tokens=2 ** 31 - 1),
    dict(num_kv_heads=0), dict(num_kv_heads=-2), dict(head_dim=0), dict(head_dim=65),
    dict(num_kv_heads=2 ** 31 - 1, head_dim=2 ** 31 - 1, num_tokens=2 ** 31 - 1),
    dict(layers=[]), dict(layers=[0, 0]), dict(layers=list(range(2000))), dict(expected_position=-1),
    dict(session_name="victim"), dict(session_name="sessions/" + "y" * (1 << 20)),
])
def test_malformed_appends_fail_as_a_whole(client, session, changes):
    code, reason, field = refused(lambda: client.attention.Append(append_request(client, session, **changes)))
    assert code == "INVALID_ARGUMENT" and reason and field


def append_status(client, request):
    status = client.attention.Append(request).results[0].status
    return status.code, error_info(status)


def test_appends_that_name_what_is_not_there(client, session):
    code, info = append_status(client, append_request(client, session, session_name="sessions/nobody"))
    assert (code, info.reason) == (grpc.StatusCode.NOT_FOUND.value[0], "SESSION_NOT_FOUND")
    for revision in (0, 2, -1):
        code, info = append_status(client, append_request(client, session, revision=revision))
        assert (code, info.reason) == (grpc.StatusCode.ABORTED.value[0], "REVISION_CONFLICT")
    code, info = append_status(client, append_request(client, session, layers=[2]))
    assert (code, info.reason) == (grpc.StatusCode.INVALID_ARGUMENT.value[0], "LAYER_OUT_OF_RANGE")
    code, info = append_status(client, append_request(client, session, layers=[-1]))
    assert (code, info.reason) == (grpc.StatusCode.INVALID_ARGUMENT.value[0], "LAYER_OUT_OF_RANGE")


def test_another_head_count_than_the_session_s(client, session):
    keys = np.zeros((4, 4, 64), np.float16)
    request = client.pb.attention.AppendRequest(
        dtype=DTYPES["f16"], items=[client.append_item(session, 100, keys)], keys=to_bytes(keys, "f16"),
        values=to_bytes(keys, "f16"))
    code, info = append_status(client, request)
    assert (code, info.reason) == (grpc.StatusCode.INVALID_ARGUMENT.value[0], "SHAPE_MISMATCH")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 65520.0, -1e30])
@pytest.mark.parametrize("role", ["keys", "values"])
def test_values_that_are_not_finite_in_float16(client, session, role, bad):
    arrays = {"keys": np.ones((2, 3, 2, 64), np.float32), "values": np.ones((2, 3, 2, 64), np.float32)}
    arrays[role][1, 2, 1, 37] = bad
    item = client.append_item(session, 100, arrays["keys"], (0, 1))
    # Layer 1 is empty: make the positions right by naming layer 1 alone.
    item.layers[:] = [1]
    item.expected_position = 0
    request = client.pb.attention.AppendRequest(
        dtype=DTYPES["f32"], items=[item], keys=to_bytes(arrays["keys"][1], "f32"),
        values=to_bytes(arrays["values"][1], "f32"))
    code, info = append_status(client, request)
    assert (code, info.reason) == (grpc.StatusCode.INVALID_ARGUMENT.value[0], "NON_FINITE_INPUT")
    found = {key: info.metadata[key] for key in ("role", "layer", "token", "head", "channel")}
    assert found == dict(role=role, layer="1", token="2", head="1", channel="37")
    assert list(client.get(session.name).layer_lengths) == [100, 0]


def test_one_bad_item_leaves_the_others_alone(client, session):
    other = client.create("bystander")
    keys, values = tokens(np.random.default_rng(2), 3)
    bad = keys.copy()
    bad[0, 0, 0] = np.nan
    response = client.attention.Append(client.pb.attention.AppendRequest(
        dtype=DTYPES["f16"],
        items=[client.append_item(session, 100, bad), client.append_item(other, 0, keys)],
        keys=to_bytes(bad, "f16") + to_bytes(keys, "f16"), values=to_bytes(values, "f16") * 2))
    assert [result.status.code for result in response.results] == [3, 0]
    assert client.get(other.name).length == 3 and client.get(session.name).layer_lengths[0] == 100
    client.delete(other.name)


def attend_request(client, session, count=1, query_heads=4, session_name=None, **changes):
    queries = np.ones((count, query_heads, 64), np.float32)
    request = client.pb.attention.AttendRequest(
        dtype=DTYPES["f32"], items=[client.attend_item(session, queries)], queries=to_bytes(queries, "f32"))
    request.items[0].session = session.name if session_name is None else session_name
    for name, value in changes.items():
        setattr(request.items[0] if name in request.items[0].DESCRIPTOR.fields_by_name else request, name, value)
    return request


@pytest.mark.parametrize("changes", [
    dict(dtype=0), dict(dtype=9), dict(output_dtype=9), dict(queries=b""), dict(queries=b"123"),
    dict(num_tokens=0), dict(num_tokens=-1), dict(num_tokens=1025), dict(num_query_heads=0),
    dict(num_query_heads=2 ** 31 - 1), dict(head_dim=-64), dict(scale=float("nan")),
    dict(scale=float("inf")), dict(min_position=-1), dict(session_name=""),
])
def test_malformed_attends_fail_as_a_whole(client, session, changes):
    code, reason, field = refused(lambda: client.attention.Attend(attend_request(client, session, **changes)))
    assert code == "INVALID_ARGUMENT" and reason and field


@pytest.mark.parametrize("changes,code,reason", [
    (dict(session_name="sessions/nobody"), "NOT_FOUND", "SESSION_NOT_FOUND"),
    (dict(layer=2), "INVALID_ARGUMENT", "LAYER_OUT_OF_RANGE"),
    (dict(layer=-1), "INVALID_ARGUMENT", "LAYER_OUT_OF_RANGE"),
    (dict(layer=1), "FAILED_PRECONDITION", "EMPTY_LAYER"),
    (dict(min_position=101), "FAILED_PRECONDITION", "POSITION_NOT_REACHED"),
    (dict(start_position=-1), "INVALID_ARGUMENT", "START_POSITION_OUT_OF_RANGE"),
    (dict(start_position=100), "INVALID_ARGUMENT", "START_POSITION_OUT_OF_RANGE"),
    (dict(count=101), "FAILED_PRECONDITION", "TOO_FEW_TOKENS"),
    (dict(query_heads=8), "INVALID_ARGUMENT", "SHAPE_MISMATCH"),
])
def test_attends_that_cannot_be_answered(client, session, changes, code, reason):
    status = client.attention.Attend(attend_request(client, session, **changes)).results[0].status
    assert status.code == getattr(grpc.StatusCode, code).value[0]
    assert error_info(status).reason == reason and status.message


def test_queries_that_are_not_finite(client, session):
    queries = np.ones((2, 4, 64), np.float32)
    queries[1, 3, 5] = np.inf
    response = client.attend_raw([client.attend_item(session, queries)], [queries])
    info = error_info(response.results[0].status)
    assert info.reason == "NON_FINITE_INPUT"
    assert (info.metadata["token"], info.metadata["head"], info.metadata["channel"]) == ("1", "3", "5")


def test_ten_thousand_items(client, session):
    queries = np.ones((1, 4, 64), np.float32)
    items = [client.attend_item(session, queries)] * 10000
    request = client.pb.attention.AttendRequest(dtype=DTYPES["f32"], items=items,
                                                queries=to_bytes(queries, "f32") * 10000)
    code, reason, field = refused(lambda: client.attention.Attend(request))
    assert (code, reason, field) == ("INVALID_ARGUMENT", "TOO_MANY_ITEMS", "items")


def test_no_items(client):
    assert refused(lambda: client.attention.Attend(client.pb.attention.AttendRequest(dtype=1)))[0] == "INVALID_ARGUMENT"
    assert refused(lambda: client.attention.Append(client.pb.attention.AppendRequest(dtype=1)))[0] == "INVALID_ARGUMENT"


@pytest.mark.parametrize("changes", [dict(mode=9), dict(top_k=-1), dict(top_k=10 ** 6)])
def test_scores(client, session, changes):
    request = client.pb.attention.ComputeScoresRequest(
        dtype=DTYPES["f32"], items=[client.attend_item(session, np.ones((1, 4, 64)))],
        queries=to_bytes(np.ones((1, 4, 64)), "f32"), **changes)
    assert refused(lambda: client.attention.ComputeScores(request))[0] == "INVALID_ARGUMENT"


def test_scores_too_large_for_an_answer(client, server):
    """4,096 tokens x 1,024 queries x 8 heads are 128 MiB of scores."""
    session = client.create("wide", query_heads=8, kv_heads=1)
    zeros = np.zeros((4096, 1, 64), np.float16)
    client.append(session, 0, zeros, zeros)
    queries = np.ones((1024, 8, 64), np.float32)
    request = client.pb.attention.ComputeScoresRequest(
        dtype=DTYPES["f32"], items=[client.attend_item(session, queries)], queries=to_bytes(queries, "f32"))
    assert refused(lambda: client.attention.ComputeScores(request))[:2] == ("RESOURCE_EXHAUSTED", "RESPONSE_TOO_LARGE")
    client.delete(session.name)


def test_a_message_over_the_limit(client):
    limit = client.server.GetServerInfo(client.pb.server.GetServerInfoRequest()).limits.max_message_bytes
    request = client.pb.attention.AppendRequest(dtype=1, keys=bytes(limit + 1))
    assert refused(lambda: client.attention.Append(request))[:2] == ("RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE")
    # What is far over the limit, gRPC refuses by itself, and so without details.
    request = client.pb.attention.AppendRequest(dtype=1, keys=bytes(2 * limit))
    with pytest.raises(grpc.RpcError) as failure:
        client.attention.Append(request)
    assert failure.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def codec_request(client, keys, values, codec="balanced"):
    tensor = lambda a: client.pb.types.Tensor(dtype=1, shape=a.shape, data=to_bytes(a, "f16"))
    return client.pb.codec.CompressRequest(canonical=dict(codec=dict(preset=codec)), keys=tensor(keys),
                                           values=tensor(values))


def test_codec_service(client):
    good = np.ones((64, 2, 128), np.float16)
    bad = good.copy()
    bad[3, 1, 9] = np.inf
    for keys, values, reason in ((good[:63], good[:63], "SHAPE_MISMATCH"), (good, good[:, :1], "SHAPE_MISMATCH"),
                                 (good[..., :100], good[..., :100], None), (good[:0], good[:0], None),
                                 (good, bad, "NON_FINITE_INPUT")):
        code, found, _ = refused(lambda: client.codec.Compress(codec_request(client, keys, values)))
        assert code == "INVALID_ARGUMENT" and (reason is None or found == reason)
    request = codec_request(client, good, good)
    request.keys.shape[:] = [2 ** 62, 2 ** 62, 128]
    assert refused(lambda: client.codec.Compress(request))[0] == "INVALID_ARGUMENT"
    assert refused(lambda: client.codec.Compress(client.pb.codec.CompressRequest()))[0] == "INVALID_ARGUMENT"


def test_hostile_blocks_and_tiles(client):
    rng = np.random.default_rng(3)
    dense = rng.standard_normal((64, 2, 128)).astype(np.float16)
    blocks = client.codec.Compress(codec_request(client, dense, dense)).canonical
    corrupt = bytearray(blocks.blocks)
    corrupt[0] ^= 1
    for change in (dict(blocks=bytes(corrupt)), dict(blocks=blocks.blocks[:-1]), dict(num_tokens=128),
                   dict(num_tokens=-64), dict(num_kv_heads=2 ** 31 - 1), dict(head_dim=64)):
        hostile = client.pb.codec.CanonicalBlocks()
        hostile.CopyFrom(blocks)
        for name, value in change.items():
            setattr(hostile, name, value)
        code, reason, _ = refused(lambda: client.codec.Decompress(
            client.pb.codec.DecompressRequest(canonical=hostile)))
        assert code == "INVALID_ARGUMENT" and reason

    sparse = np.where(rng.random((2, 64, 128)) < 0.3, rng.standard_normal((2, 64, 128)), 0).astype(np.float16)
    for tile_format in (1, 2, 3):
        tiles = client.codec.Compress(client.pb.codec.CompressRequest(
            tiles=dict(format=tile_format, num_heads=2 if tile_format == 3 else 0),
            keys=client.pb.types.Tensor(dtype=1, shape=sparse.shape, data=to_bytes(sparse, "f16")))).key_tiles
        for change in (dict(bitmaps=tiles.bitmaps[:-8]), dict(offsets=b"\xff" * len(tiles.offsets)),
                       dict(packed=tiles.packed[:len(tiles.packed) // 2]), dict(batch=3), dict(batch=2 ** 62),
                       dict(bitmaps=b"\xff" * len(tiles.bitmaps)), dict(role=0), dict(format=0), dict(head_dim=1)):
            hostile = client.pb.codec.Tiles()
            hostile.CopyFrom(tiles)
            for name, value in change.items():
                setattr(hostile, name, value)
            code, reason, _ = refused(lambda: client.codec.Decompress(
                client.pb.codec.DecompressRequest(tiles=hostile)))
            assert code == "INVALID_ARGUMENT" and reason, (tile_format, change)
