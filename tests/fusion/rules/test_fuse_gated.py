"""fuse-swiglu and fused-gate-up."""

from __future__ import annotations

import pytest
from fusion.rules.fusing import B, Fires, H, Refuses, S, p, x
from ops import formulas as f

from rlxflow.dtypes import f16, f32
from rlxflow.ir.values import Value
from rlxflow.ops.activation import activate, silu
from rlxflow.ops.elementwise import add, cast, exp, mul, neg
from rlxflow.ops.linear import linear

SWIGLU, GATE_UP = "fuse-swiglu", "fused-gate-up"


def gate(source: Value | None = None) -> Value:
    return linear(source or x(), p("gate", 5, H))


def up(source: Value | None = None, rows: int = 5) -> Value:
    return linear(source or x(), p("up", rows, H))


def down(y: Value) -> Value:
    return linear(y, p("down", H, 5))


def biased() -> Value:
    return mul(activate(add(gate(), p("gb", 5)), "gelu_tanh"), add(up(), p("ub", 5)))


def hidden(a: f.Array, activation: str) -> f.Array:
    gated = f.matmul_bias_act(a["x"], a["gate"], a.get("gb"), activation=activation)
    return gated * f.matmul_bias_act(a["x"], a["up"], a.get("ub"))


ACTIVATIONS = [a for a in f.ACTIVATIONS if a != "none"]
FIRES = [
    Fires(
        f"mlp, {a}",
        lambda a=a: down(mul(activate(gate(), a), up())),
        "gated_mlp",
        lambda arrays, a=a: f.gated_mlp(*(arrays[k] for k in ("x", "gate", "up", "down")), activation=a),
    )
    for a in ACTIVATIONS
]
FIRES += [
    Fires(
        f"gate up, {a}",
        lambda a=a: mul(up(), activate(gate(), a)),
        "fused_gate_up",
        lambda v, a=a: hidden(v, a),
    )
    for a in ACTIVATIONS
]
FIRES += [
    Fires("gate up, biased", biased, "fused_gate_up", lambda a: hidden(a, "gelu_tanh")),
    Fires("gate up before a biased down", lambda: add(down(biased()), p("b", H)), "fused_gate_up"),
]


@pytest.mark.parametrize("case", FIRES, ids=str)
def test_fires(case: Fires) -> None:
    case.check()


def product_read() -> tuple[Value, Value]:
    y = mul(silu(gate()), up())
    return down(y), neg(y)


def gate_read() -> tuple[Value, Value]:
    y = silu(gate())
    return mul(y, up()), neg(y)


def up_output() -> tuple[Value, Value]:
    y = up()
    return down(mul(silu(gate()), y)), y


def both_activated() -> Value:
    return down(mul(silu(gate()), silu(up())))


def through_half() -> Value:
    y = mul(silu(gate()), up())
    return down(cast(cast(y, dtype=f16), dtype=f32))


REFUSES = [
    Refuses("rounded on the way", through_half, SWIGLU, "gated_mlp", "expected mul, found cast"),
    Refuses("product read", product_read, SWIGLU, "gated_mlp", "result of mul is also read by neg"),
    Refuses("up is an output", up_output, SWIGLU, "gated_mlp", "also read by an output of the graph"),
    Refuses(
        "two inputs",
        lambda: down(mul(silu(gate()), up(x("z")))),
        SWIGLU,
        "gated_mlp",
        "[operand] linear operand 'x'",
    ),
    Refuses("another function", lambda: down(mul(exp(gate()), up())), SWIGLU, "gated_mlp", "found exp"),
    Refuses("both activated", both_activated, SWIGLU, "gated_mlp", "expected linear, found silu"),
    Refuses("gate read", gate_read, GATE_UP, "fused_gate_up", "result of silu is also read by neg"),
    Refuses(
        "up of width 1",
        lambda: mul(silu(gate()), up(rows=1)),
        GATE_UP,
        "fused_gate_up",
        "up is [1,8], wanted [5,8]",
    ),
    Refuses(
        "two inputs",
        lambda: mul(silu(gate()), up(x("z"))),
        GATE_UP,
        "fused_gate_up",
        "[operand] linear operand 'x'",
    ),
    Refuses(
        "no up",
        lambda: mul(silu(gate()), p("u", B, S, 5)),
        GATE_UP,
        "fused_gate_up",
        "expected linear, found param",
    ),
]


@pytest.mark.parametrize("case", REFUSES, ids=str)
def test_refuses(case: Refuses) -> None:
    case.check()


def test_what_the_whole_does_not_take_the_half_gets() -> None:
    assert Fires("", product_read, "fused_gate_up").check().count("linear") == 1
