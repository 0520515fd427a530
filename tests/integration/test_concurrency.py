"""Many clients at once: nothing lost, nothing mixed up."""

import concurrent.futures

import grpc
import numpy as np
from api import Api
from reference import attention, relative_error
from test_attention import tokens


def test_clients_with_sessions_of_their_own(server, pb):
    def work(index):
        rng = np.random.default_rng(index)
        with grpc.insecure_channel(server.target, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            client = Api(channel, pb)
            session = client.create(codec="fp16", recent_window=index)
            keys, values = tokens(rng, 150)
            for position in range(0, 150, 10):
                client.append(session, position, keys[position:position + 10], values[position:position + 10])
                queries = rng.standard_normal((1, 4, 64)).astype(np.float32)
                expected, _ = attention(queries, keys[:position + 10], values[:position + 10])
                assert relative_error(client.attend(session, queries)[0], expected) < 1e-3
            client.delete(session.name)
        return True

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        assert all(pool.map(work, range(32)))


def test_racing_appends_of_the_same_tokens_apply_once(server, client, pb):
    """A retry that races with its original: one is applied, the others are replays."""
    keys, values = tokens(np.random.default_rng(1), 5)
    session = client.create(codec="fp16")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for position in range(0, 200, 5):
            results = list(pool.map(lambda _: client.append(session, position, keys, values), range(8)))
            assert sum(not result.replayed for result in results) == 1
    assert client.get(session.name).length == 200
    client.delete(session.name)


def test_deletes_race_with_attends(server, client):
    """An attend on a session that is being deleted is answered whole or with NOT_FOUND."""
    keys, values = tokens(np.random.default_rng(2), 300)
    queries = np.ones((1, 4, 64), np.float32)
    expected, _ = attention(queries, keys, values)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for _ in range(20):
            session = client.create(codec="fp16")
            client.append(session, 0, keys, values)
            attends = [pool.submit(client.attend_raw, [client.attend_item(session, queries)], [queries])
                       for _ in range(8)]
            client.delete(session.name)
            for future in attends:
                response = future.result()
                if response.results[0].status.code == 0:
                    output = np.frombuffer(response.outputs, "<f4").reshape(queries.shape)
                    assert relative_error(output, expected) < 1e-3
                else:
                    assert response.results[0].status.code == grpc.StatusCode.NOT_FOUND.value[0]


def test_cancelled_calls_leave_the_server_well(server, client):
    keys, values = tokens(np.random.default_rng(3), 2000)
    session = client.create(codec="balanced")
    client.append(session, 0, keys, values)
    queries = np.ones((500, 4, 64), np.float32)
    request = client.pb.attention.AttendRequest(dtype=3, items=[client.attend_item(session, queries)],
                                                queries=queries.tobytes())
    futures = [client.attention.Attend.future(request) for _ in range(30)]
    for future in futures:
        future.cancel()
    deadlines = [client.attention.Attend.future(request, timeout=0.001) for _ in range(30)]
    assert {future.code() for future in deadlines} <= {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.OK}
    assert client.attend(session, queries[:1])[0].shape == (1, 4, 64)
    client.delete(session.name)
