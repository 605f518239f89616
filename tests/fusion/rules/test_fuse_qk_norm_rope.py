"""fuse-qk-norm-rope."""

from __future__ import annotations

from typing import Any

import pytest
from fusion.rules.fusing import B, Fires, Refuses, S, cache, lengths, p
from ops import formulas as f

from rlxflow.ir.values import Value
from rlxflow.ops.attention import attention, cached_attention
from rlxflow.ops.cache import cache_append
from rlxflow.ops.elementwise import neg
from rlxflow.ops.norm import rms_norm
from rlxflow.ops.rope import rope
from rlxflow.ops.shape import slice_

RULE, OP, D = "fuse-qk-norm-rope", "qk_norm_rope", 4


def x(name: str, heads: int) -> Value:
    return p(name, B, S, heads, D)


def tables(suffix: str = "", half: int = 2) -> tuple[Value, Value]:
    return p(f"cos{suffix}", B, S, half), p(f"sin{suffix}", B, S, half)


def normed(name: str, heads: int, eps: float = 1e-6, offset: bool = False) -> Value:
    return rms_norm(x(name, heads), p(f"{name}n", D), eps=eps, unit_offset=offset)


def encoder(
    q: Value | None = None,
    k: Value | None = None,
    offset: bool = False,
    interleaved: bool = False,
    half: int = 2,
) -> Value:
    q = rope(normed("q", 4, offset=offset), *tables(half=half), interleaved=interleaved) if q is None else q
    k = rope(normed("k", 2, offset=offset), *tables(half=half), interleaved=interleaved) if k is None else k
    return attention(q, k, x("v", 2), scale=0.5)


def expected(a: Any, offset: bool = False, interleaved: bool = False) -> Any:
    q, k = (
        f.rope(
            f.rms_norm(a[n], a[f"{n}n"], eps=1e-6, unit_offset=offset),
            a["cos"],
            a["sin"],
            interleaved=interleaved,
        )
        for n in "qk"
    )
    return f.attention(q, k, a["v"], scale=0.5)


def decoder() -> tuple[Value, Value]:
    past, new = lengths()
    k = cache_append(cache("k", 2, D), rope(normed("k", 2), *tables()), past, new)
    return cached_attention(rope(normed("q", 4), *tables()), k, k, past, new, scale=0.5), k


FIRES = [
    Fires("plain", encoder, OP, expected),
    Fires(
        "offset and interleaved",
        lambda: encoder(offset=True, interleaved=True),
        OP,
        lambda a: expected(a, offset=True, interleaved=True),
    ),
    Fires("part of a head rotated", lambda: encoder(half=1), OP, expected),
    Fires("over a cache", decoder, OP),
]


@pytest.mark.parametrize("case", FIRES, ids=str)
def test_fires(case: Fires) -> None:
    case.check()


def norm_read() -> tuple[Value, Value]:
    q = normed("q", 4)
    return encoder(q=rope(q, *tables())), neg(q)


def key_from_query() -> Value:
    q = rope(normed("q", 4), *tables())
    k = rms_norm(slice_(q, axis=2, start=0, stop=2), p("kn", D), eps=1e-6)
    return encoder(q=q, k=rope(k, *tables()))


REFUSES = [
    Refuses("norm read", norm_read, RULE, OP, "result of rms_norm is also read by neg"),
    Refuses(
        "other tables", lambda: encoder(q=rope(normed("q", 4), *tables("2"))), RULE, OP, "different tables"
    ),
    Refuses(
        "other eps", lambda: encoder(q=rope(normed("q", 4, 1e-3), *tables())), RULE, OP, "different settings"
    ),
    Refuses("q not normed", lambda: encoder(q=rope(x("q", 4), *tables())), RULE, OP, "only one of q and k"),
    Refuses("key made from query", key_from_query, RULE, OP, "[cycle]"),
]


@pytest.mark.parametrize("case", REFUSES, ids=str)
def test_refuses(case: Refuses) -> None:
    case.check()
