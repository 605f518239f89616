"""recognise-gelu, recognise-rms-norm, recognise-rope: graphs that our stages did not write."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fusion.rules.fusing import B, Fires, H, Refuses, S, fused, graph_of, p, x
from ops import formulas as f

from rlxflow.dtypes import f32
from rlxflow.ir.values import Value
from rlxflow.ops.attention import attention
from rlxflow.ops.elementwise import add, div, erf, mul, neg, rsqrt, sqrt
from rlxflow.ops.leaves import full
from rlxflow.ops.linear import linear
from rlxflow.ops.reduce import mean
from rlxflow.ops.shape import concat, reshape, slice_

GELU, RMS, ROPE, D = "recognise-gelu", "recognise-rms-norm", "recognise-rope", 4


def c(value: float, *shape: int) -> Value:
    return full(value=value, dtype=f32, shape=shape)


def phi(v: Value) -> Value:
    return add(c(1.0), erf(div(v, c(2.0**0.5))))


def rms(v: Value, g: Value | None = None, eps: float = 1e-6) -> Value:
    return mul(p("g", H) if g is None else g, mul(v, rsqrt(add(mean(mul(v, v)), c(eps)))))


def heads(name: str = "q") -> Value:
    return p(name, B, S, 2, D)


def doubled(name: str, other: str = "", axis: int = 2) -> Value:
    return reshape(
        concat(p(name, B, S, D // 2), p(other or name, B, S, D // 2), axis=axis), shape=(B, S, 1, D)
    )


def rotated(v: Value, axis: int = 3, wrong: bool = False, tables: str = "cos") -> Value:
    first, second = (slice_(v, axis=axis, start=i, stop=i + 2) for i in (0, 2))
    half = concat(neg(first), second, axis=axis) if wrong else concat(neg(second), first, axis=axis)
    at = -1 if axis < 0 else 2
    return add(mul(v, doubled("cos", tables, at)), mul(half, doubled("sin", axis=at)))


def both_rotated(axis: int = 3) -> Value:
    """q and k share the doubled tables, which stay while both are read."""
    return attention(rotated(heads("q"), axis), rotated(heads("k"), axis), heads("v"), scale=0.5)


def gelu_of(a: Any) -> Any:
    return f.each(f.gelu)(a["x"])


def rms_of(a: Any) -> Any:
    return f.rms_norm(a["x"], a["g"], eps=1e-6)


def attention_of(a: Any) -> Any:
    q, k = (f.rope(a[n], a["cos"], a["sin"]) for n in "qk")
    return f.attention(q, k, a["v"], scale=0.5)


def fires(label: str, make: Callable[[], Value], op: str, formula: Any, **more: Any) -> Fires:
    return Fires(label, make, op, formula, written=True, **more)


FIRES = [
    fires("gelu, halved last", lambda: mul(mul(x(), phi(x())), c(0.5)), "gelu", gelu_of),
    fires("gelu, halved first", lambda: mul(mul(c(0.5), x()), phi(x())), "gelu", gelu_of),
    fires("gelu, halved inside", lambda: mul(x(), mul(c(0.5), phi(x()))), "gelu", gelu_of),
    fires(
        "gelu, by product",
        lambda: mul(mul(x(), c(0.5)), add(erf(mul(x(), c(0.5**0.5))), c(1.0))),
        "gelu",
        gelu_of,
    ),
    fires("rms, product", lambda: rms(x()), "rms_norm", rms_of),
    fires(
        "rms, quotient",
        lambda: mul(div(x(), sqrt(add(mean(mul(x(), x())), c(1e-6)))), p("g", H)),
        "rms_norm",
        rms_of,
    ),
    fires("rope, last axis 3", both_rotated, "rope", attention_of, count=2),
    fires("rope, last axis −1", lambda: both_rotated(-1), "rope", attention_of, count=2),
]


@pytest.mark.parametrize("case", FIRES, ids=str)
def test_fires(case: Fires) -> None:
    case.check()


def interior_read() -> tuple[Value, Value]:
    cdf = phi(x())
    return mul(mul(x(), cdf), c(0.5)), neg(cdf)


def scale_read() -> tuple[Value, Value]:
    y = rms(x())
    return y, neg(y.node.inputs[1].node.inputs[1])


def half_read() -> tuple[Value, Value]:
    y = rotated(heads())
    return y, neg(y.node.inputs[1].node.inputs[0])


REFUSES = [
    Refuses(
        "another constant", lambda: mul(mul(x(), c(0.7)), phi(x())), GELU, "gelu", "value = 0.7, expected 0.5"
    ),
    Refuses("another x", lambda: mul(mul(x("z"), phi(x())), c(0.5)), GELU, "gelu", "[operand]"),
    Refuses("distribution read", interior_read, GELU, "gelu", "result of add is also read by neg"),
    Refuses(
        "weight of one number", lambda: rms(x(), p("g", 1)), RMS, "rms_norm", "weight is [1], wanted [8]"
    ),
    Refuses("scale read", scale_read, RMS, "rms_norm", "result of rsqrt is also read by neg"),
    Refuses(
        "mean of another product",
        lambda: mul(mul(x(), rsqrt(add(mean(mul(x("z"), x("z"))), c(1e-6)))), p("g", H)),
        RMS,
        "rms_norm",
        "[operand]",
    ),
    Refuses(
        "wrong half negated",
        lambda: rotated(heads(), wrong=True),
        ROPE,
        "rope",
        "slice has start = 2, expected 0",
    ),
    Refuses("tables not doubled", lambda: rotated(heads(), tables="other"), ROPE, "rope", "[operand]"),
    Refuses("half read", half_read, ROPE, "rope", "result of concat is also read by neg"),
]


@pytest.mark.parametrize("case", REFUSES, ids=str)
def test_refuses(case: Refuses) -> None:
    case.check()


def test_larger_rules_see_what_was_recognised() -> None:
    """A feed-forward with GELU and an RMSNorm behind its residual, all written out."""

    def make() -> Value:
        y = add(linear(x(), p("w", H, H)), p("b", H))
        return rms(add(mul(mul(y, phi(y)), c(0.5)), x("r")))

    result, found = fused(graph_of(make))
    assert [n.op.name for n in result.nodes if n.op.name not in ("param", "full")] == [
        "matmul_bias_act",
        "residual_rms_norm",
    ]
    assert {name: len(r.matches) for name, r in found.items() if r.matches} == {
        GELU: 1,
        RMS: 1,
        "fuse-matmul-bias-act": 1,
        "fuse-residual-rms-norm": 1,
    }
