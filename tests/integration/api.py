"""The service as a Python user with generated stubs sees it, with numpy tensors."""

import numpy as np
from google.rpc import error_details_pb2, status_pb2

DTYPES = {"f16": 1, "bf16": 2, "f32": 3}


def to_bytes(array, dtype):
    """The little-endian bytes of a float array in one of DTYPES."""
    if dtype == "f16":
        return np.ascontiguousarray(array, dtype="<f2").tobytes()
    single = np.ascontiguousarray(array, dtype="<f4")
    if dtype == "f32":
        return single.tobytes()
    bits = single.view("<u4").astype(np.uint64)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return rounded.astype("<u2").tobytes()


def error_of(rpc_error):
    """(code name, ErrorInfo, google.rpc.Status) of a failed call."""
    for key, value in rpc_error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            status = status_pb2.Status.FromString(value)
            return rpc_error.code().name, error_info(status), status
    return rpc_error.code().name, None, None


def error_info(status):
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return info
    return None


def bad_field(status):
    for detail in status.details:
        bad = error_details_pb2.BadRequest()
        if detail.Unpack(bad):
            return bad.field_violations[0].field
    return None


class Api:
    def __init__(self, channel, pb):
        self.pb = pb
        self.channel = channel
        self.sessions = pb.session_grpc.SessionServiceStub(channel)
        self.attention = pb.attention_grpc.AttentionServiceStub(channel)
        self.codec = pb.codec_grpc.CodecServiceStub(channel)
        self.server = pb.server_grpc.ServerServiceStub(channel)

    # Sessions

    def create(self, session_id="", layers=1, query_heads=4, kv_heads=2, head_dim=64, codec="balanced",
               recent_window=None, metadata=None):
        request = self.pb.session.CreateSessionRequest(
            session_id=session_id,
            model_shape=dict(num_layers=layers, num_query_heads=query_heads, num_kv_heads=kv_heads,
                             head_dim=head_dim),
            codec=self.codec_message(codec), recent_window=recent_window)
        return self.sessions.CreateSession(request, metadata=metadata).session

    def codec_message(self, codec):
        """A preset's name, or (kept, bits) of keys and (kept, bits) of values."""
        if isinstance(codec, str):
            return self.pb.types.Codec(preset=codec)
        keys, values = codec
        return self.pb.types.Codec(keys=dict(kept=keys[0], bits=keys[1]),
                                   values=dict(kept=values[0], bits=values[1]))

    def get(self, name):
        return self.sessions.GetSession(self.pb.session.GetSessionRequest(name=name)).session

    def delete(self, name):
        return self.sessions.DeleteSession(self.pb.session.DeleteSessionRequest(name=name)).freed_bytes

    def fork(self, name, session_id=""):
        return self.sessions.ForkSession(
            self.pb.session.ForkSessionRequest(name=name, session_id=session_id)).session

    def truncate(self, name, length):
        return self.sessions.TruncateSession(
            self.pb.session.TruncateSessionRequest(name=name, length=length))

    def compress(self, name, keep_exact=None, codec=None):
        return self.sessions.CompressSession(self.pb.session.CompressSessionRequest(
            name=name, keep_exact=keep_exact, codec=self.codec_message(codec) if codec else None))

    # Attention

    def append_item(self, session, position, keys, layers=(0,)):
        """keys: [tokens, kv_heads, head_dim], or [layers, ...] where several layers are named."""
        tokens, heads, dim = keys.shape[-3:]
        return self.pb.attention.AppendItem(
            session=session.name, revision=session.revision, expected_position=position,
            layers=layers, num_tokens=tokens, num_kv_heads=heads, head_dim=dim)

    def append(self, session, position, keys, values, layers=(0,), dtype="f16"):
        """One item; the result must be OK."""
        response = self.attention.Append(self.pb.attention.AppendRequest(
            dtype=DTYPES[dtype], items=[self.append_item(session, position, keys, layers)],
            keys=to_bytes(keys, dtype), values=to_bytes(values, dtype)))
        result = response.results[0]
        assert result.status.code == 0, result.status
        return result

    def attend_item(self, session, queries, layer=0, **options):
        tokens, heads, dim = queries.shape
        return self.pb.attention.AttendItem(session=session.name, layer=layer, num_tokens=tokens,
                                            num_query_heads=heads, head_dim=dim, **options)

    def attend_raw(self, items, queries, dtype="f32", output_dtype="f32"):
        return self.attention.Attend(self.pb.attention.AttendRequest(
            dtype=DTYPES[dtype], output_dtype=DTYPES[output_dtype], items=items,
            queries=b"".join(to_bytes(q, dtype) for q in queries)))

    def attend(self, session, queries, layer=0, **options):
        """One item: (outputs [tokens, query_heads, head_dim], lse [tokens, query_heads])."""
        response = self.attend_raw([self.attend_item(session, queries, layer, **options)], [queries])
        assert response.results[0].status.code == 0, response.results[0].status
        return (np.frombuffer(response.outputs, "<f4").reshape(queries.shape),
                np.frombuffer(response.lse, "<f4").reshape(queries.shape[:2]))

    def scores(self, session, queries, mode=1, top_k=0, layer=0, **options):
        """One item: (scores [tokens, query_heads, n], positions or None)."""
        response = self.attention.ComputeScores(self.pb.attention.ComputeScoresRequest(
            dtype=DTYPES["f32"], mode=mode, top_k=top_k,
            items=[self.attend_item(session, queries, layer, **options)],
            queries=to_bytes(queries, "f32")))
        result = response.results[0]
        assert result.status.code == 0, result.status
        shape = (*queries.shape[:2], result.num_scores)
        positions = np.frombuffer(response.positions, "<i8").reshape(shape) if top_k else None
        return np.frombuffer(response.scores, "<f4").reshape(shape), positions

    # Codec

    def round_trip(self, codec, keys, values):
        """Keys and values [64 n, kv_heads, head_dim] as the codec leaves them, float32."""
        tensor = lambda a: self.pb.types.Tensor(dtype=DTYPES["f16"], shape=a.shape, data=to_bytes(a, "f16"))
        packed = self.codec.Compress(self.pb.codec.CompressRequest(
            canonical=dict(codec=self.codec_message(codec)), keys=tensor(keys), values=tensor(values)))
        dense = self.codec.Decompress(self.pb.codec.DecompressRequest(
            canonical=packed.canonical, output_dtype=DTYPES["f32"]))
        return tuple(np.frombuffer(t.data, "<f4").reshape(a.shape)
                     for t, a in ((dense.keys, keys), (dense.values, values)))
