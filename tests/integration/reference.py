"""Attention in float64, as its definition says."""

import numpy as np


def attention(queries, keys, values, scale=None, start=0):
    """queries [t, hq, d] of the newest t tokens; keys, values [n, hk, d]. (output, lse), float64."""
    t, hq, d = queries.shape
    n, hk, _ = keys.shape
    factor = d ** -0.5 if scale is None else scale
    scores = raw_scores(queries.astype(np.float64) * factor, keys, start)
    lse = np.logaddexp.reduce(scores, axis=-1)
    weights = np.exp(scores - lse[..., None])
    spread = np.repeat(values[start:].astype(np.float64), hq // hk, axis=1)
    return np.einsum("thn,nhd->thd", weights, spread), lse


def raw_scores(queries, keys, start=0):
    """q.k [t, hq, n - start]; -inf where a query may not see a token."""
    t, hq, _ = queries.shape
    n, hk, _ = keys.shape
    spread = np.repeat(keys[start:].astype(np.float64), hq // hk, axis=1)
    scores = np.einsum("thd,nhd->thn", queries.astype(np.float64), spread)
    position = np.arange(start, n)
    last_seen = n - t + np.arange(t)
    scores[np.broadcast_to((position[None, :] > last_seen[:, None])[:, None, :], scores.shape)] = -np.inf
    return scores


def relative_error(actual, expected):
    """The largest over heads of max|a - b| / max|b|; arrays [t, heads, ...]."""
    axes = tuple(i for i in range(actual.ndim) if i != 1)
    return float(np.max(np.max(np.abs(actual - expected), axis=axes) / np.max(np.abs(expected), axis=axes)))
