"""fuse-shared-input-matmul: by role only."""

from __future__ import annotations

from typing import Any

import pytest
from fusion.rules.fusing import (
    B,
    Fires,
    H,
    Refuses,
    S,
    cache,
    caches_before,
    fused,
    graph_of,
    lengths,
    mask,
    p,
    x,
)
from ops import formulas as f

from rlxflow.dtypes import bf16, q4_0, q8_0
from rlxflow.ir.values import Value
from rlxflow.ops.activation import silu
from rlxflow.ops.attention import attention, cached_attention
from rlxflow.ops.cache import cache_append
from rlxflow.ops.elementwise import add, mul, neg
from rlxflow.ops.linear import linear
from rlxflow.ops.norm import rms_norm
from rlxflow.ops.rope import rope
from rlxflow.ops.shape import reshape, slice_, transpose

RULE, OP = "fuse-shared-input-matmul", "shared_input_linear"
HEADS, KV, D = 4, 2, 4


def project(name: str, heads: int, source: Value | None = None, bias: bool = False) -> Value:
    y = linear(source or x(), p(name, heads * D, H))
    return add(y, p(f"{name}_b", heads * D)) if bias else y


def heads(y: Value, count: int) -> Value:
    return reshape(y, shape=(B, S, count, D))


def tables() -> tuple[Value, Value]:
    return p("cos", B, S, D // 2), p("sin", B, S, D // 2)


def encoder(bias: str = "", k_source: Value | None = None) -> Value:
    q, k, v = (
        heads(project(n, c, k_source if n == "k" else None, n in bias), c)
        for n, c in (("q", HEADS), ("k", KV), ("v", KV))
    )
    return attention(q, k, v, mask(), scale=0.5)


def decoder(norm: bool = False) -> tuple[Value, ...]:
    q, k, v = (heads(project(n, c), c) for n, c in (("q", HEADS), ("k", KV), ("v", KV)))
    if norm:
        q, k = (rms_norm(y, p(f"{n}n", D), eps=1e-6) for n, y in (("q", q), ("k", k)))
    q, k = rope(q, *tables()), rope(k, *tables())
    past, new = lengths()
    keys, values = (cache_append(cache(n, KV, D), y, past, new) for n, y in (("k", k), ("v", v)))
    return cached_attention(q, keys, values, past, new, scale=0.5), keys, values


def expected(a: Any) -> Any:
    q, k, v = (
        f.matmul_bias_act(a["x"], a[n], a.get(f"{n}_b")).reshape(B, S, c, D)
        for n, c in (("q", HEADS), ("k", KV), ("v", KV))
    )
    return f.attention(q, k, v, a["mask"], scale=0.5)


def expected_decoder(a: Any) -> Any:
    q, k, v = (f.linear(a["x"], a[n]).reshape(B, S, c, D) for n, c in (("q", HEADS), ("k", KV), ("v", KV)))
    q, k = (f.rope(y, a["cos"], a["sin"]) for y in (q, k))
    keys, values = (
        f.cache_append(c, y, a["past_len"], a["new_len"])
        for c, y in zip(caches_before(("k", KV, D), ("v", KV, D)), (k, v), strict=True)
    )
    wide = (c.astype(float) for c in (keys, values))  # caches round to float32
    return f.cached_attention(q, *wide, a["past_len"], a["new_len"], scale=0.5), keys, values


def tapped_gate() -> tuple[Value, Value]:
    gate, up = linear(x(), p("gate", 5, H)), linear(x(), p("up", 5, H))
    return mul(silu(gate), up), neg(gate)


def gate_and_up(a: Any) -> Any:
    gate = f.linear(a["x"], a["gate"])
    return f.each(f.ACTIVATIONS["silu"])(gate) * f.linear(a["x"], a["up"]), -gate


# far: batch · seq above the threshold, where no attention block takes the projections
FIRES = [
    Fires("no bias", encoder, OP, expected),
    Fires("all biased", lambda: encoder("qkv"), OP, expected),
    Fires("k without bias", lambda: encoder("qv"), OP, expected),
    Fires("over a cache", decoder, OP, expected_decoder, tokens=512),
    Fires("over norm, rope and cache", lambda: decoder(norm=True), OP, tokens=512),
    Fires("gate and up", tapped_gate, "gate_up_linear", gate_and_up),
]


@pytest.mark.parametrize("case", FIRES, ids=str)
def test_fires(case: Fires) -> None:
    case.check()


def sliced() -> Value:
    """q, k and v cut from one product, as some checkpoints have them: there is nothing left to join."""
    y = linear(x(), p("qkv", 3 * H, H))
    q, k, v = (
        reshape(slice_(y, axis=2, start=i * H, stop=(i + 1) * H), shape=(B, S, 2, D)) for i in range(3)
    )
    return attention(q, k, v, scale=0.5)


def biased_read() -> tuple[Value, Value]:
    product = project("q", HEADS)
    q = heads(add(product, p("qb", HEADS * D)), HEADS)
    k, v = (heads(project(n, KV), KV) for n in ("k", "v"))
    return attention(q, k, v, scale=0.5), neg(product)


def later_key() -> Value:
    """The key's projection reads a weight that the query's made."""
    q = project("q", HEADS)
    weight = transpose(reshape(slice_(q, axis=1, start=0, stop=1), shape=(2, 16)), perm=(1, 0))
    weight = reshape(weight, shape=(8, 4))
    k = linear(x(), reshape(linear(p("e", 16, 4), weight), shape=(16, 8)))
    return attention(heads(q, 4), heads(k, 4), heads(project("v", 4), 4), scale=0.5)


REFUSES = [
    Refuses("another input", lambda: encoder(k_source=x("z")), RULE, OP, "projections of different values"),
    Refuses("one product, cut", sliced, RULE, OP, "not all linear: expected linear, found slice"),
    Refuses("product before the bias read", biased_read, RULE, OP, "result of linear is also read by neg"),
    Refuses("key made from query", later_key, RULE, OP, "[cycle] it would depend on its own results"),
]


@pytest.mark.parametrize("case", REFUSES, ids=str)
def test_refuses(case: Refuses) -> None:
    case.check()


def test_three_linears_of_one_value_are_nothing() -> None:
    result, found = fused(graph_of(lambda: tuple(project(n, 2) for n in "qkv")))
    assert result.count("linear") == 3 and not found[RULE].misses


def test_every_weight_has_its_own_type() -> None:
    def make() -> Value:
        wide = p("wide", B, S, 32)
        types = {"q": q4_0, "k": q8_0, "v": bf16}
        q, k, v = (heads(linear(wide, p(n, 8, 32, dtype=t)), 2) for n, t in types.items())
        return attention(q, k, v, scale=0.5)

    result, _ = fused(graph_of(make))
    (node,) = (n for n in result.nodes if n.op.name == OP)
    assert [str(v.dtype) for v in node.inputs] == ["f32", "q4_0", "q8_0", "bf16"]
