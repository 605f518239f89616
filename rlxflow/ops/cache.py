"""Writing to a key/value cache."""

from __future__ import annotations

import numpy as np

from rlxflow.dtypes import Array
from rlxflow.errors import InputError
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


def want_lengths(past_len: Array, new_len: Array, num_tokens: int, capacity: int) -> None:
    """Check lengths that arrive at run time; raises `InputError`."""
    if (past_len < 0).any() or (new_len < 0).any() or (new_len > num_tokens).any():
        shown = f"past_len {past_len.tolist()} and new_len {new_len.tolist()} of {num_tokens} tokens"
        hint = "past_len is 0 or more, new_len runs from 0 to the number of tokens given"
        raise InputError(shown, code="RLX-R008", hint=hint)
    total = int((past_len.astype(np.int64) + new_len).max(initial=0))
    if total > capacity:
        message = f"{total} positions do not fit a cache of {capacity}"
        raise InputError(message, code="RLX-R009", hint="grow the state, or truncate what it holds")


@cache_append.reference
def _cache_append(cache: Array, new: Array, past_len: Array, new_len: Array) -> Array:
    want_lengths(past_len, new_len, new.shape[1], cache.shape[2])
    for row, (past, count) in enumerate(zip(past_len, new_len, strict=True)):
        # in place: the verifier guarantees that nobody reads the old version
        cache[row, :, past : past + count] = np.swapaxes(new[row, :count], 0, 1)
    return cache


cache_append.rows(lambda cache, new, past_len, new_len: 1)
cache_append.ignores_invalid("new_len")
