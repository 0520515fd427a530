"""A seeded random client of 10,000 calls, half of them malformed, and a model of what must be there."""

import os
import random

import grpc
import numpy as np
from api import DTYPES, to_bytes
from reference import attention, relative_error

CALLS = int(os.environ.get("KVATTEND_RANDOM_CALLS", "10000"))
HEADS, QUERY_HEADS, DIM, LAYERS, WINDOW = 2, 4, 64, 2, 70
# Codecs whose error is small: the answers are compared with attention over what was appended.
CODECS = {"fp16": 1e-3, "int8": 5e-2}


class Model:
    """What a session holds: per layer, keys and values."""

    def __init__(self, message, codec):
        self.message, self.codec = message, codec
        self.layers = [[np.zeros((0, HEADS, DIM), np.float16)] * 2 for _ in range(LAYERS)]

    def length(self, layer):
        return len(self.layers[layer][0])


class RandomClient:
    def __init__(self, client, seed):
        self.client, self.pb = client, client.pb
        self.random, self.numpy = random.Random(seed), np.random.default_rng(seed)
        self.models = {}
        self.counts = {}

    def step(self):
        names = ["create", "append", "append", "append", "append", "attend", "attend", "truncate", "fork", "delete",
                 "get"]
        name = self.random.choice(names) if self.models else "create"
        malformed = self.random.random() < 0.5
        self.counts[name, malformed] = self.counts.get((name, malformed), 0) + 1
        if malformed:
            self.malformed(name)
        else:
            getattr(self, name)()

    # Well-formed calls, each checked

    def pick(self):
        return self.random.choice(list(self.models.values()))

    def create(self):
        if len(self.models) >= 12:
            return self.delete()
        codec = self.random.choice(list(CODECS))
        message = self.client.create(layers=LAYERS, query_heads=QUERY_HEADS, kv_heads=HEADS, head_dim=DIM,
                                     codec=codec, recent_window=WINDOW)
        self.models[message.name] = Model(message, codec)

    def append(self):
        model, layer = self.pick(), self.random.randrange(LAYERS)
        count = self.random.choice([1, 1, 1, 2, 15, 64, 130])
        if model.length(layer) + count > 1500:
            return
        keys, values = (self.numpy.standard_normal((count, HEADS, DIM)).astype(np.float16) for _ in range(2))
        result = self.client.append(model.message, model.length(layer), keys, values, (layer,))
        assert not result.replayed and result.position == model.length(layer) + count
        model.layers[layer] = [np.concatenate(pair) for pair in zip(model.layers[layer], (keys, values))]
        if self.random.random() < 0.2:
            again = self.client.append(model.message, model.length(layer) - count, keys, values, (layer,))
            assert again.replayed

    def attend(self):
        model, layer = self.pick(), self.random.randrange(LAYERS)
        count = min(self.random.choice([1, 1, 3]), model.length(layer))
        if not count:
            return
        queries = self.numpy.standard_normal((count, QUERY_HEADS, DIM)).astype(np.float32)
        output, _ = self.client.attend(model.message, queries, layer)
        expected, _ = attention(queries, *model.layers[layer])
        assert relative_error(output, expected) < CODECS[model.codec]

    def truncate(self):
        model = self.pick()
        longest = max(model.length(layer) for layer in range(LAYERS))
        length = self.random.randrange(longest + 1)
        if self.random.random() < 0.7:
            length -= length % 64
        try:
            model.message = self.client.truncate(model.message.name, length).session
        except grpc.RpcError as failure:
            assert failure.code() == grpc.StatusCode.FAILED_PRECONDITION and length % 64
            return
        model.layers = [[tensor[:length] for tensor in pair] for pair in model.layers]

    def fork(self):
        if len(self.models) >= 12:
            return self.delete()
        model = self.pick()
        copy = Model(self.client.fork(model.message.name), model.codec)
        copy.layers = [list(pair) for pair in model.layers]
        self.models[copy.message.name] = copy

    def delete(self):
        model = self.pick()
        self.client.delete(model.message.name)
        del self.models[model.message.name]

    def get(self):
        model = self.pick()
        message = self.client.get(model.message.name)
        assert list(message.layer_lengths) == [model.length(layer) for layer in range(LAYERS)]
        assert message.revision == model.message.revision

    # Malformed calls: each must be refused, one way or the other

    def malformed(self, name):
        pb, rnd = self.pb, self.random
        session = rnd.choice(list(self.models)) if self.models else "sessions/none"
        bad_name = rnd.choice(["", "sessions/", "nobody", "sessions/nobody", "sessions/" + "z" * 999, "\x01"])
        if name == "create":
            shape = dict(num_layers=2, num_query_heads=4, num_kv_heads=2, head_dim=64)
            shape[rnd.choice(list(shape))] = rnd.choice([0, -1, 3001, 2 ** 31 - 1])
            call = lambda: self.client.sessions.CreateSession(pb.session.CreateSessionRequest(model_shape=shape))
        elif name in ("get", "delete", "fork"):
            call = lambda: getattr(self.client, name)(bad_name)
        elif name == "truncate":
            call = lambda: self.client.truncate(session, rnd.choice([-1, 10 ** 6, -2 ** 63]))
        else:
            call = lambda: self.malformed_tensors(name, session, bad_name)
        try:
            response = call()
        except grpc.RpcError as failure:
            assert failure.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND,
                                      grpc.StatusCode.OUT_OF_RANGE), failure
        else:
            assert name in ("append", "attend"), f"a malformed {name} was accepted"
            assert response.results and all(result.status.code for result in response.results)

    def malformed_tensors(self, name, session, bad_name):
        rnd = self.random
        revision = self.models[session].message.revision if session in self.models else 1
        item = dict(session=session, num_tokens=1, head_dim=DIM)
        data = bytes(2 * HEADS * DIM)
        if name == "append":
            item.update(revision=revision, expected_position=10 ** 6, layers=[0], num_kv_heads=HEADS)
        else:
            item.update(layer=0, num_query_heads=QUERY_HEADS, min_position=10 ** 6)
            data = bytes(2 * QUERY_HEADS * DIM)
        spoil = rnd.choice(["session", "num_tokens", "head_dim", "bytes", "dtype", "nothing more"])
        dtype = DTYPES["f16"]
        if spoil == "session":
            item["session"] = bad_name
        elif spoil in ("num_tokens", "head_dim"):
            item[spoil] = rnd.choice([0, -1, 2, 2 ** 31 - 1])
        elif spoil == "bytes":
            data = data[:rnd.randrange(len(data))]
        elif spoil == "dtype":
            dtype = rnd.choice([0, 3, 99])
        if name == "append":
            return self.client.attention.Append(self.pb.attention.AppendRequest(
                dtype=dtype, items=[item], keys=data, values=data))
        return self.client.attention.Attend(self.pb.attention.AttendRequest(dtype=dtype, items=[item], queries=data))


def test_ten_thousand_calls_half_of_them_malformed(client, server):
    seed = int(os.environ.get("KVATTEND_SEED", "20250807"))
    print(f"seed {seed}, {CALLS} calls")
    before = server.metric("kvattend_kv_bytes")
    walker = RandomClient(client, seed)
    for _ in range(CALLS):
        walker.step()
    for malformed in (False, True):
        assert sum(count for (_, bad), count in walker.counts.items() if bad == malformed) > CALLS * 0.4

    # What the server says that it holds is what it accounts for, and all answers are still right.
    for model in walker.models.values():
        message = client.get(model.message.name)
        assert list(message.layer_lengths) == [model.length(layer) for layer in range(LAYERS)]
        assert message.dense_bytes == sum(message.layer_lengths) * HEADS * DIM * 4
        for layer in range(LAYERS):
            if model.length(layer):
                queries = np.ones((1, QUERY_HEADS, DIM), np.float32)
                expected, _ = attention(queries, *model.layers[layer])
                assert relative_error(client.attend(model.message, queries, layer)[0], expected) < CODECS[model.codec]
    for name in list(walker.models):
        client.delete(name)
    assert server.metric("kvattend_kv_bytes") == before
