"""Writing to a key/value cache."""

from __future__ import annotations

import numpy as np

from rlxflow.dtypes import Array
from rlxflow.ir.op import op
from rlxflow.ir.values import Type, Value
from rlxflow.ops.checks import fail, want_float, want_integer, want_rank, want_shape


@op("primitive", takes_state=True)
def cache_append(cache: Value, new: Value, past_len: Value, new_len: Value) -> Type:
    """Rows past_len[b] … past_len[b] + new_len[b] − 1 of the cache become the first new_len[b] rows of `new`.

    cache: state [B, Hkv, C, D]; new: float [B, S, Hkv, D]; past_len, new_len: integer [B], with
    past_len + new_len ≤ C. The result is the next version of the state; the old one may not be read again.
    """
    if not cache.type.state:
        raise fail("cache is not a state", "declare it with a cache of the flow")
    want_float("new", new)
    want_rank("cache", cache, 4)
    want_rank("new", new, 4)
    want_shape("new", new, (cache.dim(0), new.dim(1), cache.dim(1), cache.dim(3)))
    for name, x in (("past_len", past_len), ("new_len", new_len)):
        want_integer(name, x)
        want_shape(name, x, (cache.dim(0),))
    return cache.type


@cache_append.reference
def _cache_append(cache: Array, new: Array, past_len: Array, new_len: Array) -> Array:
    if new.size and int((past_len + new_len).max()) > cache.shape[2]:
        raise fail(f"{int((past_len + new_len).max())} positions do not fit a cache of {cache.shape[2]}")
    for row, (past, count) in enumerate(zip(past_len, new_len, strict=True)):
        # in place: the verifier guarantees that nobody reads the old version
        cache[row, :, past : past + count] = np.swapaxes(new[row, :count], 0, 1)
    return cache


cache_append.rows(lambda cache, new, past_len, new_len: 1)
