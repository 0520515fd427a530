"""docs/formats.md is enough to read and to write canonical blocks: canonical.py does, to the bit."""

import canonical
import numpy as np
import pytest
from api import DTYPES, to_bytes

PRESETS = ["balanced", "lean", "fine", "fp16", "sparse50", "sparse70", "sparse50-int4", "sparse70-int4",
           "sparse50-int2", "sparse70-int2", "int8", "int4", "int2"]
CUSTOM = [((1, 2), (1, 2)), ((63, 4), (33, 8)), ((17, 8), (64, 16)), ((29, 16), (48, 4)), ((31, 4), (49, 2))]
HEADS = 2


def tensors(random, kind, head_dim):
    """Keys and values of 128 tokens, float16."""
    keys, values = random.standard_normal((2, 128, HEADS, head_dim))
    if kind == "outliers":
        keys[..., :4] *= 100
    elif kind == "tiny":
        keys, values = keys * 1e-7, values * 3e-8
    elif kind == "huge":
        keys, values = np.clip(keys * 3e4, -65504, 65504), np.clip(values * 5e4, -65504, 65504)
    elif kind == "zeros":
        keys[random.random(keys.shape) < 0.8] = -0.0
        keys[3], values[:5] = 0, 0
    elif kind == "ties":
        keys, values = np.sign(keys), np.round(values)
    return keys.astype(np.float16), values.astype(np.float16)


def head_blocks(tensor):
    """[64, head_dim] of each block and head, in the order of the bytes."""
    return [tensor[start:start + 64, head] for start in (0, 64) for head in range(HEADS)]


@pytest.mark.parametrize("kind", ["gaussian", "outliers", "tiny", "huge", "zeros", "ties"])
@pytest.mark.parametrize("codec", PRESETS + CUSTOM, ids=str)
def test_blocks_are_as_the_document_says(client, codec, kind):
    pb, random = client.pb, np.random.default_rng(1)
    for head_dim in (64, 128, 256):
        keys, values = tensors(random, kind, head_dim)
        tensor = lambda a: pb.types.Tensor(dtype=DTYPES["f16"], shape=a.shape, data=to_bytes(a, "f16"))
        packed = client.codec.Compress(pb.codec.CompressRequest(
            canonical=dict(codec=client.codec_message(codec)), keys=tensor(keys), values=tensor(values))).canonical
        dense = client.codec.Decompress(pb.codec.DecompressRequest(canonical=packed))
        formats = [(f.kept, f.bits, head_dim, is_key)
                   for f, is_key in ((packed.codec.keys, True), (packed.codec.values, False))]
        parts = [canonical.part_bytes(*f) for f in formats]
        assert len(packed.blocks) == sum(parts) * 2 * HEADS
        offset = 0
        decoded = [np.frombuffer(t.data, "<f4").reshape(keys.shape) for t in (dense.keys, dense.values)]
        for block in zip(head_blocks(keys), head_blocks(values), *map(head_blocks, decoded)):
            for role in (0, 1):
                part = packed.blocks[offset:offset + parts[role]]
                offset += parts[role]
                assert canonical.encode(block[role], *formats[role]) == part
                np.testing.assert_array_equal(canonical.decode(part, *formats[role]), block[2 + role])
