"""fuse-residual-ln and fuse-residual-rms-norm."""

from __future__ import annotations

import pytest
from fusion.rules.fusing import Fires, H, Refuses, p, x
from ops import formulas as f

from rlxflow.ir.values import Value
from rlxflow.ops.elementwise import add, mul, neg, sub, tanh
from rlxflow.ops.linear import linear
from rlxflow.ops.norm import layer_norm, rms_norm
from rlxflow.ops.shape import reshape, slice_

LN, RMS = "fuse-residual-ln", "fuse-residual-rms-norm"


def norm(total: Value, bias: bool = True) -> Value:
    return layer_norm(total, p("g", H), p("b", H) if bias else None, eps=1e-5)


def rms(total: Value, offset: bool = False) -> Value:
    return rms_norm(total, p("g", H), eps=1e-5, unit_offset=offset)


def with_sum() -> tuple[Value, Value]:
    total = add(x(), x("r"))
    return neg(total), rms(total)


def biased() -> Value:
    return norm(add(add(tanh(x()), p("xb", H)), x("r")))


FIRES = [
    Fires(
        "layer norm",
        lambda: norm(add(x(), x("r"))),
        "residual_layer_norm",
        lambda a: f.layer_norm(a["x"] + a["r"], a["g"], a["b"], eps=1e-5),
    ),
    Fires(
        "layer norm without bias",
        lambda: norm(add(x("r"), x()), bias=False),
        "residual_layer_norm",
        lambda a: f.layer_norm(a["x"] + a["r"], a["g"], eps=1e-5),
    ),
    Fires(
        "layer norm, x biased",
        biased,
        "biased_residual_layer_norm",
        lambda a: f.layer_norm(
            f.each(f.ACTIVATIONS["tanh"])(a["x"]) + a["xb"] + a["r"], a["g"], a["b"], eps=1e-5
        ),
    ),
    Fires(
        "rms norm, the sum read too",
        with_sum,
        "residual_rms_norm",
        lambda a: (-(a["x"] + a["r"]), f.rms_norm(a["x"] + a["r"], a["g"], eps=1e-5)),
    ),
    Fires(
        "rms norm with offset, the sum not read",
        lambda: rms(add(x(), x("r")), offset=True),
        "residual_rms_norm",
        lambda a: f.rms_norm(a["x"] + a["r"], a["g"], eps=1e-5, unit_offset=True),
    ),
    Fires("one value twice", lambda: norm(add(x(), x())), "residual_layer_norm"),
    Fires("chain", lambda: rms(add(rms(add(x(), x("r"))), x("s"))), "residual_rms_norm", count=2),
]


@pytest.mark.parametrize("case", FIRES, ids=str)
def test_fires(case: Fires) -> None:
    case.check()


def test_the_bias_of_a_linear_stays_with_it() -> None:
    def make() -> Value:
        return norm(add(add(linear(x(), p("w", H, H)), p("xb", H)), x("r")))

    result = Fires("", make, "residual_layer_norm").check()
    assert result.count("matmul_bias_act") == 1 and result.count("biased_residual_layer_norm") == 0


def tapped() -> tuple[Value, Value]:
    total = add(x(), x("r"))
    return norm(total), neg(total)


def output() -> tuple[Value, Value]:
    total = add(x(), x("r"))
    return norm(total), total


def row() -> Value:
    return reshape(
        slice_(slice_(add(x(), x("r")), axis=0, start=0, stop=1), axis=1, start=0, stop=1), shape=(H,)
    )


REFUSES = [
    Refuses("sum read elsewhere", tapped, LN, "residual_layer_norm", "result of add is also read by neg"),
    Refuses("sum is an output", output, LN, "residual_layer_norm", "also read by an output of the graph"),
    Refuses(
        "broadcast",
        lambda: norm(add(x(), p("r", H))),
        LN,
        "residual_layer_norm",
        "residual is [8], wanted [2,3,8]",
    ),
    Refuses(
        "difference", lambda: norm(sub(x(), x("r"))), LN, "residual_layer_norm", "expected add, found sub"
    ),
    Refuses(
        "x biased by whole rows",
        lambda: norm(add(add(tanh(x()), x("xb")), p("r", H))),
        LN,
        "biased_residual_layer_norm",
        "wanted [2,3,8]",
    ),
    Refuses("rms, broadcast", lambda: rms(add(x(), p("r", H))), RMS, "residual_rms_norm", "residual is [8]"),
    Refuses(
        "rms, product", lambda: rms(mul(x(), x("r"))), RMS, "residual_rms_norm", "expected add, found mul"
    ),
    Refuses(
        "rms, weight from the sum",
        lambda: rms_norm(add(x(), x("r")), row(), eps=1e-5),
        RMS,
        "residual_rms_norm",
        "[cycle] it would depend on its own results",
    ),
]


@pytest.mark.parametrize("case", REFUSES, ids=str)
def test_refuses(case: Refuses) -> None:
    case.check()
