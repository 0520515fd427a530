"""A full arena refuses without losing anything."""

import grpc
import numpy as np
import pytest
from api import DTYPES, Api, error_info, error_of, to_bytes
from test_attention import tokens


@pytest.fixture
def small(start_server, pb):
    server = start_server("--kv_memory=8MiB")
    with grpc.insecure_channel(server.target) as channel:
        yield server, Api(channel, pb)


def test_a_full_arena_refuses_and_keeps_everything(small):
    server, client = small
    rng = np.random.default_rng(0)
    session = client.create("big", codec="fp16", kv_heads=4, head_dim=128, recent_window=0)
    keys, values = tokens(rng, 64, 4, 128)
    position, queries = 0, rng.standard_normal((1, 4, 128)).astype(np.float32)
    while True:
        response = client.attention.Append(client.pb.attention.AppendRequest(
            dtype=1, items=[client.append_item(session, position, keys)], keys=to_bytes(keys, "f16"),
            values=to_bytes(values, "f16")))
        status = response.results[0].status
        if status.code:
            break
        position += 64
    info = error_info(status)
    assert status.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0] and info.reason == "ARENA_FULL"
    assert position * 4 * 128 * 4 > 7 << 20, "nearly all of the arena was used"
    full = client.get(session.name)
    assert full.length == position and server.metric("kvattend_kv_bytes") == full.stored_bytes
    before = client.attend(session, queries)[0].tobytes()

    # Everything still works that needs no memory; truncating makes room.
    assert client.fork(session.name, "free").length == position
    client.delete("sessions/free")
    session = client.truncate(session.name, position - 64).session
    client.append(session, position - 64, keys, values)
    assert client.attend(session, queries)[0].tobytes() == before
    assert server.metric("kvattend_rejections_total", reason="arena_full") >= 1
    client.delete(session.name)
    assert server.metric("kvattend_kv_bytes") == 0


def test_a_recode_that_does_not_fit_leaves_the_session_as_it_was(small):
    server, client = small
    rng = np.random.default_rng(1)
    session = client.create(codec="fp16", kv_heads=4, head_dim=128, recent_window=0)
    # 8 MiB hold 64 blocks of 128 KiB; with 60 of them in use there is no room for a second copy.
    keys, values = tokens(rng, 60 * 64, 4, 128)
    client.append(session, 0, keys, values)
    queries = rng.standard_normal((1, 4, 128)).astype(np.float32)
    before, state = client.attend(session, queries)[0].tobytes(), client.get(session.name)
    try:
        client.compress(session.name, codec="int8")
    except grpc.RpcError as failure:
        code, info, _ = error_of(failure)
        assert (code, info.reason) == ("RESOURCE_EXHAUSTED", "ARENA_FULL")
        assert client.get(session.name) == state
        assert client.attend(session, queries)[0].tobytes() == before
    else:
        assert client.get(session.name).codec.preset == "int8"
    assert server.metric("kvattend_kv_bytes") == client.get(session.name).stored_bytes
