"""Attend and ComputeScores against float64 attention over the decompressed cache."""

import numpy as np
import pytest
from reference import attention, raw_scores, relative_error

PRESETS = ["balanced", "lean", "fine", "fp16", "sparse50", "sparse70", "sparse50-int4", "sparse70-int4",
           "sparse50-int2", "sparse70-int2", "int8", "int4", "int2"]
# The design's limit; what is stored is known exactly, so only arithmetic differs.
TOLERANCE = 1e-3


def tokens(rng, count, heads=2, dim=64):
    """Keys with a few large channels, as real ones have, and values; float16."""
    keys = rng.standard_normal((count, heads, dim))
    keys[..., ::17] *= 6
    return keys.astype(np.float16), rng.standard_normal((count, heads, dim)).astype(np.float16)


def stored(client, codec, keys, values, recent_window):
    """The cache as the server holds it: whole blocks coded, the newest tokens exact."""
    coded = max(0, (len(keys) - recent_window) // 64) * 64
    keys, values = keys.astype(np.float32), values.astype(np.float32)
    if coded:
        keys[:coded], values[:coded] = client.round_trip(
            codec, keys[:coded].astype(np.float16), values[:coded].astype(np.float16))
    return keys, values


def append_in_chunks(client, session, keys, values, sizes):
    position = 0
    while position < len(keys):
        size = min(sizes[position % len(sizes)], len(keys) - position)
        client.append(session, position, keys[position:position + size], values[position:position + size])
        position += size


@pytest.mark.parametrize("head_dim", [64, 128, 256])
@pytest.mark.parametrize("codec", PRESETS)
def test_attend_equals_attention_over_the_decompressed_cache(client, codec, head_dim):
    rng = np.random.default_rng(head_dim)
    for count in (1, 63, 64, 65, 127, 128, 129, 1000, 4096):
        keys, values = tokens(rng, count, 2, head_dim)
        queries = rng.standard_normal((1, 4, head_dim)).astype(np.float32)
        for recent_window in (0, 64):
            session = client.create(head_dim=head_dim, codec=codec, recent_window=recent_window)
            client.append(session, 0, keys, values)
            output, lse = client.attend(session, queries)
            expected, expected_lse = attention(queries, *stored(client, codec, keys, values, recent_window))
            assert relative_error(output, expected) < TOLERANCE, (count, recent_window)
            np.testing.assert_allclose(lse, expected_lse, atol=2e-3, err_msg=f"{count} {recent_window}")
            client.delete(session.name)


@pytest.mark.parametrize("codec", ["balanced", "sparse70-int2", "int8", "fp16", ((17, 4), (5, 8))])
def test_results_are_bit_identical_however_tokens_came(client, codec):
    rng = np.random.default_rng(5)
    keys, values = tokens(rng, 333)
    queries = rng.standard_normal((3, 4, 64)).astype(np.float32)
    answers = []
    for sizes in ([333], [1], [64], [7, 100, 3]):
        session = client.create(codec=codec, recent_window=16)
        append_in_chunks(client, session, keys, values, sizes)
        answers.append((client.attend(session, queries), client.scores(session, queries)[0],
                        client.get(session.name).stored_bytes))
        client.delete(session.name)
    for (output, lse), scores, stored_bytes in answers[1:]:
        assert output.tobytes() == answers[0][0][0].tobytes()
        assert lse.tobytes() == answers[0][0][1].tobytes()
        assert scores.tobytes() == answers[0][1].tobytes()
        assert stored_bytes == answers[0][2]


def test_results_are_bit_identical_alone_and_in_a_batch(client):
    rng = np.random.default_rng(6)
    sessions, queries, alone = [], [], []
    for index, count in enumerate((1, 70, 500, 2500, 64)):
        session = client.create(codec=PRESETS[index * 2], recent_window=index)
        client.append(session, 0, *tokens(rng, count))
        sessions.append(session)
        queries.append(rng.standard_normal((1 + index % 2 if count > 1 else 1, 4, 64)).astype(np.float32))
        alone.append(client.attend(session, queries[-1]))
    items = [client.attend_item(s, q) for s, q in zip(sessions, queries)]
    response = client.attend_raw(items, queries)
    assert all(result.status.code == 0 for result in response.results)
    assert response.outputs == b"".join(output.tobytes() for output, _ in alone)
    assert response.lse == b"".join(lse.tobytes() for _, lse in alone)
    for session in sessions:
        client.delete(session.name)


def test_several_query_tokens_windows_and_scale(client):
    rng = np.random.default_rng(7)
    keys, values = tokens(rng, 1300)
    session = client.create(codec="int4", recent_window=100, query_heads=6, kv_heads=2)
    client.append(session, 0, keys, values)
    known = stored(client, "int4", keys, values, 100)
    for count, start, scale in ((1, 0, None), (5, 0, 0.3), (17, 1100, None), (300, 64, 0.05), (1024, 3, None),
                                (1, 1299, 2.0), (3, 0, 0.0), (40, 0, -0.5), (2, 0, -10.0)):
        queries = rng.standard_normal((count, 6, 64)).astype(np.float32)
        output, lse = client.attend(session, queries, start_position=start, scale=scale)
        expected, expected_lse = attention(queries, *known, scale=scale, start=start)
        assert relative_error(output, expected) < TOLERANCE
        np.testing.assert_allclose(lse, expected_lse, atol=2e-3)
    client.delete(session.name)


def test_two_partial_results_merge_to_the_whole_by_their_lse(client):
    rng = np.random.default_rng(8)
    keys, values = tokens(rng, 400)
    queries = rng.standard_normal((1, 4, 64)).astype(np.float32)
    parts = []
    for part in (slice(0, 150), slice(150, 400)):
        session = client.create(codec="fp16")
        client.append(session, 0, keys[part], values[part])
        parts.append(client.attend(session, queries))
        client.delete(session.name)
    lse = np.logaddexp(parts[0][1], parts[1][1])
    merged = sum(output * np.exp(part_lse - lse)[..., None] for output, part_lse in parts)
    expected, expected_lse = attention(queries, keys, values)
    assert relative_error(merged, expected) < TOLERANCE
    np.testing.assert_allclose(lse, expected_lse, atol=1e-3)


@pytest.mark.parametrize("dtype,output_dtype,tolerance", [("f16", "f16", 2e-3), ("bf16", "bf16", 1e-2),
                                                          ("f32", "f32", 1e-3), ("bf16", "f32", 1e-3)])
def test_dtypes_of_keys_queries_and_outputs(client, dtype, output_dtype, tolerance):
    rng = np.random.default_rng(9)
    as_bf16 = lambda a: (a.astype("<f4").view("<u4") & 0xFFFF0000).view("<f4")
    keys, values = (as_bf16(rng.standard_normal((100, 2, 64))) for _ in range(2))
    queries = as_bf16(rng.standard_normal((2, 4, 64)))
    if dtype == "f16":
        queries = queries.astype(np.float16).astype(np.float32)
    session = client.create(codec="fp16")
    client.append(session, 0, keys, values, dtype=dtype)
    response = client.attend_raw([client.attend_item(session, queries)], [queries], dtype, output_dtype)
    raw = {"f32": lambda b: np.frombuffer(b, "<f4"), "f16": lambda b: np.frombuffer(b, "<f2"),
           "bf16": lambda b: (np.frombuffer(b, "<u2").astype("<u4") << 16).view("<f4")}[output_dtype]
    expected, _ = attention(queries, keys.astype(np.float16), values.astype(np.float16))
    output = raw(response.outputs).astype(np.float64).reshape(queries.shape)
    assert relative_error(output, expected) < tolerance
    client.delete(session.name)


def test_scores_raw_softmax_and_top_k(client):
    rng = np.random.default_rng(10)
    keys, values = tokens(rng, 300)
    session = client.create(codec="balanced", recent_window=32)
    client.append(session, 0, keys, values)
    known, _ = stored(client, "balanced", keys, values, 32)
    queries = rng.standard_normal((4, 4, 64)).astype(np.float32)

    raw, _ = client.scores(session, queries, mode=1)
    expected = raw_scores(queries, known)
    visible = np.isfinite(expected)
    assert (np.isneginf(raw) == ~visible).all()
    assert np.max(np.abs(raw[visible] - expected[visible])) < TOLERANCE * np.max(np.abs(expected[visible]))

    probabilities, _ = client.scores(session, queries, mode=2)
    weights = np.exp(expected / 8)
    np.testing.assert_allclose(probabilities, weights / weights.sum(-1, keepdims=True), rtol=5e-3, atol=1e-6)
    assert (probabilities[~visible] == 0).all()
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-4)

    best, positions = client.scores(session, queries, mode=1, top_k=10)
    order = np.argsort(-raw, axis=-1, kind="stable")[..., :10]
    assert (positions == order).all()
    assert (best == np.take_along_axis(raw, order, -1)).all()

    everything, positions = client.scores(session, queries, mode=1, top_k=1000, start_position=290)
    assert everything.shape[-1] == 10
    assert (positions[0] == -1).sum() == 3 * 4, "the first of four queries sees three tokens fewer"
    assert positions.max() == 299 and positions[positions >= 0].min() == 290
    client.delete(session.name)
