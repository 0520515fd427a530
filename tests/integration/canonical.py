"""The canonical block, written from docs/formats.md alone, as a reader of that page would."""

import numpy as np

ROOT_2 = np.float32(float.fromhex("0x1.6a09e6p+0"))
ABOVE_ROOT_2 = np.float32(float.fromhex("0x1.6a09e8p+0"))
TOKENS = 64


def ratio(kept, head_dim):
    return 1.5 if 100 * kept <= 45 * head_dim else 2.0 if 100 * kept <= 75 * head_dim else 3.25


def power(e):
    """P(e): sqrt(2)^e."""
    e = int(e)
    return np.float32(2.0 ** (e // 2)) * (ROOT_2 if e % 2 else np.float32(1))


def part_bytes(kept, bits, head_dim, is_key):
    bitmaps = TOKENS * head_dim // 8 if kept < head_dim else 0
    exponents = head_dim if is_key and bits < 16 else 0
    scales = 2 * TOKENS if bits < 16 else 0
    return bitmaps + exponents + scales + TOKENS * kept * bits // 8


def decode(part, kept, bits, head_dim, is_key):
    """float32 [64, head_dim]."""
    mask = np.ones((TOKENS, head_dim), bool)
    if kept < head_dim:
        size = TOKENS * head_dim // 8
        mask = np.unpackbits(np.frombuffer(part, np.uint8, size), bitorder="little").reshape(mask.shape).astype(bool)
        part = part[size:]
    powers = np.ones(head_dim, np.float32)
    if is_key and bits < 16:
        powers = np.array([power(e) for e in np.frombuffer(part, np.int8, head_dim)])
        part = part[head_dim:]
    if bits < 16:
        scales = np.frombuffer(part, "<f2", TOKENS).astype(np.float32)
        part = part[2 * TOKENS:]
    stream = np.unpackbits(np.frombuffer(part, np.uint8), bitorder="little").reshape(TOKENS, kept, bits)
    codes = (stream.astype(np.uint32) << np.arange(bits, dtype=np.uint32)).sum(-1, dtype=np.uint32)
    if bits == 16:
        kept_values = codes.astype(np.uint16).view(np.float16).astype(np.float32)
    else:
        if bits == 2:
            levels = np.where(codes & 1, ratio(kept, head_dim), 1) * np.where(codes & 2, -1, 1)
        else:
            levels = codes - (2**bits - 1) / 2
        kept_values = levels.astype(np.float32) * scales[:, None]
    decoded = np.zeros((TOKENS, head_dim), np.float32)
    decoded[mask] = kept_values.ravel()
    return decoded * powers


def tree(y):
    """The sum over the last axis, pairwise."""
    while y.shape[-1] > 1:
        y = y[..., 0::2] + y[..., 1::2]
    return y[..., 0]


def exponents_of(x):
    mean_square = tree((x * x).T) / np.float32(TOKENS)
    mantissa, exponent = np.frexp(mean_square)  # the mantissa in [0.5, 1)
    rounded_up = mantissa * np.float32(2) >= ABOVE_ROOT_2
    return np.where(mean_square == 0, 0, exponent - 1 + rounded_up).astype(np.int8)


def quantise_2(z, mask, r):
    """(scales, codes) of all channels."""
    one, magnitude = np.float32(1), np.where(mask, np.abs(z), np.float32(0))
    kept = np.float32(mask[0].sum())
    h = (one + r) / np.float32(2)
    g = np.float32({1.5: 0.8125, 2.0: 0.71875, 3.25: 0.625}[float(r)])
    total = tree(magnitude)
    is_large = magnitude > (total * (g * h / kept))[:, None]
    large = tree(np.where(is_large, magnitude, np.float32(0)))
    count = is_large.sum(1).astype(np.float32)
    scale = ((total + (r - one) * large) / (kept + (r * r - one) * count)).astype(np.float16)
    s = scale.astype(np.float32)[:, None]
    codes = (magnitude > s * h) + 2 * np.signbit(z)
    return scale, np.where(s == 0, 0, codes)


def quantise_4_8(z, mask, bits):
    half = np.float32(2 ** (bits - 1))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        def code(inverse):
            return np.minimum(np.maximum(np.floor(z * inverse + half), np.float32(0)), 2 * half - np.float32(1))

        largest = np.where(mask, np.abs(z), np.float32(0)).max(1, keepdims=True)
        levels = np.where(mask, code(half / largest) - (half - np.float32(0.5)), np.float32(0))
        fitted = tree(z * levels) / (levels * levels).sum(1, dtype=np.float32)
        scale = np.where(largest[:, 0] == 0, np.float32(0), fitted).astype(np.float16)
        s = scale.astype(np.float32)[:, None]
        return scale, np.where(s == 0, 0, np.nan_to_num(code(np.float32(1) / s)))


def encode(x, kept, bits, head_dim, is_key):
    """x: float16 [64, head_dim]."""
    single = x.astype(np.float32)
    order = np.argsort(-np.abs(single), axis=1, kind="stable")[:, :kept]
    mask = np.zeros((TOKENS, head_dim), bool)
    np.put_along_axis(mask, order, True, axis=1)
    part = b"" if kept == head_dim else np.packbits(mask, bitorder="little").tobytes()
    if bits == 16:
        return part + x[mask].astype("<f2").tobytes()
    z = single
    if is_key:
        exponents = exponents_of(single)
        part += exponents.tobytes()
        z = single * np.array([power(-int(e)) for e in exponents])
    if bits == 2:
        scales, codes = quantise_2(z, mask, np.float32(ratio(kept, head_dim)))
    else:
        scales, codes = quantise_4_8(z, mask, bits)
    kept_codes = codes[mask].astype(np.uint32)
    stream = (kept_codes[:, None] >> np.arange(bits, dtype=np.uint32)) & 1
    return part + scales.astype("<f2").tobytes() + np.packbits(stream.astype(np.uint8), bitorder="little").tobytes()
