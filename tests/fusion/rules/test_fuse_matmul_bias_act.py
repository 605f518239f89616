"""fuse-matmul-bias-act."""

from __future__ import annotations

import pytest
from fusion.rules.fusing import B, Fires, H, Refuses, S, p, x
from ops import formulas as f

from rlxflow.dtypes import bf16, q8_0
from rlxflow.ir.values import Value
from rlxflow.ops.activation import activate, gelu
from rlxflow.ops.elementwise import add, neg
from rlxflow.ops.linear import linear

RULE, OP = "fuse-matmul-bias-act", "matmul_bias_act"


def case(activation: str, bias: bool) -> Fires:
    def make() -> Value:
        y = linear(x(), p("w", 5, H))
        return activate(add(y, p("b", 5)) if bias else y, activation)  # type: ignore[arg-type]

    def formula(a: dict[str, f.Array]) -> f.Array:
        return f.matmul_bias_act(a["x"], a["w"], a.get("b"), activation=activation)

    return Fires(f"{activation}{', bias' if bias else ''}", make, OP, formula)  # type: ignore[arg-type]


FIRES = [
    case(activation, bias)
    for activation in f.ACTIVATIONS
    for bias in (True, False)
    if bias or activation != "none"
]
FIRES += [
    Fires("bias first", lambda: add(p("b", 5), linear(x(), p("w", 5, H))), OP),
    Fires("half bias", lambda: add(linear(neg(x()), p("w", 5, H)), p("b", 5, dtype=bf16)), OP),
    Fires("twice in a row", lambda: add(linear(linear(x(), p("v", H, H)), p("w", 5, H)), p("b", 5)), OP),
]


@pytest.mark.parametrize("case", FIRES, ids=str)
def test_fires(case: Fires) -> None:
    case.check()


def tapped() -> tuple[Value, Value]:
    y = linear(x(), p("w", 5, H))
    return add(y, p("b", 5)), neg(y)


def output() -> tuple[Value, Value]:
    y = linear(x(), p("w", 5, H))
    return add(y, p("b", 5)), y


REFUSES = [
    Refuses("product read elsewhere", tapped, RULE, OP, "result of linear is also read by neg"),
    Refuses("product is an output", output, RULE, OP, "also read by an output of the graph"),
    Refuses(
        "one number", lambda: add(linear(x(), p("w", 5, H)), p("b", 1)), RULE, OP, "bias is [1], wanted [5]"
    ),
    Refuses(
        "another sum",
        lambda: add(linear(x(), p("w", H, H)), x("r")),
        RULE,
        OP,
        f"bias is [{B},{S},{H}], wanted [{H}]",
    ),
    Refuses("no product", lambda: gelu(neg(x())), RULE, OP, "gelu operand 'x': expected linear, found neg"),
]


@pytest.mark.parametrize("case", REFUSES, ids=str)
def test_refuses(case: Refuses) -> None:
    case.check()


def test_an_interior_output_is_not_the_result_of_the_activation() -> None:
    """The biased sum is an output: bias is fused, the activation stays outside."""

    def make() -> tuple[Value, Value]:
        y = add(linear(x(), p("w", 5, H)), p("b", 5))
        return y, gelu(y)

    result = Fires("sum is an output", make, OP).check()
    assert result.count("gelu") == 1


def test_packed_weights_fuse_alike() -> None:
    def make() -> Value:
        return gelu(add(linear(p("wide", B, S, 32), p("w", 5, 32, dtype=q8_0)), p("b", 5)))

    from fusion.rules.fusing import fused, graph_of

    assert fused(graph_of(make))[0].count(OP) == 1
