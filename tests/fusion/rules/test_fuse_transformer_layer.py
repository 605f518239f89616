"""fuse-transformer-layer."""

from __future__ import annotations

from typing import Any

import pytest
from fusion.rules.fusing import B, Fires, H, Refuses, S, fused, graph_of, mask, p, x
from ops import formulas as f

from rlxflow.dtypes import DType, f16, f32
from rlxflow.ir.values import Value
from rlxflow.ops.activation import activate
from rlxflow.ops.attention import attention
from rlxflow.ops.elementwise import add, exp, neg
from rlxflow.ops.linear import linear
from rlxflow.ops.norm import layer_norm
from rlxflow.ops.shape import reshape

RULE, OP, NUM_HEADS, D = "fuse-transformer-layer", "fused_transformer_layer", 2, 4
OPERANDS = [
    *("hidden", "qkv_w", "qkv_b", "out_w", "out_b", "ln1_g", "ln1_b"),
    *("fc1_w", "fc1_b", "fc2_w", "fc2_b", "ln2_g", "ln2_b", "mask"),
]


def linear_of(y: Value, name: str, rows: int, columns: int, dtype: DType = f32) -> Value:
    return add(linear(y, p(f"{name}_w", rows, columns, dtype=dtype)), p(f"{name}_b", rows, dtype=dtype))


def layer(
    hidden: Value | None = None,
    prefix: str = "",
    activation: str = "gelu",
    residual: Value | None = None,
    beta: bool = True,
    masked: bool = True,
    parts: tuple[DType, ...] = (f32, f32, f32),
    all_parts: bool = False,
) -> Any:
    hidden = neg(x()) if hidden is None else hidden
    q, k, v = (
        reshape(linear_of(hidden, prefix + n, H, H, t), shape=(B, S, NUM_HEADS, D))
        for n, t in zip("qkv", parts, strict=True)
    )
    context = reshape(attention(q, k, v, mask() if masked else None, scale=D**-0.5), shape=(B, S, H))
    attended = linear_of(context, prefix + "out", H, H)
    bias = p(prefix + "ln1_b", H) if beta else None
    h = layer_norm(add(attended, hidden), p(prefix + "ln1_g", H), bias, eps=1e-12)
    inner = linear_of(h, prefix + "fc1", 16, H)
    inner = exp(inner) if activation == "exp" else activate(inner, activation)  # type: ignore[arg-type]
    out = linear_of(inner, prefix + "fc2", H, 16)
    y = layer_norm(
        add(out, h if residual is None else residual),
        p(prefix + "ln2_g", H),
        p(prefix + "ln2_b", H),
        eps=1e-5,
    )
    return (y, h, inner, context) if all_parts else y


def expected(activation: str = "gelu") -> Any:
    def formula(a: Any) -> Any:
        hidden = -a["x"]
        q, k, v = (
            f.matmul_bias_act(hidden, a[f"{n}_w"], a[f"{n}_b"]).reshape(B, S, NUM_HEADS, D) for n in "qkv"
        )
        context = f.attention(q, k, v, a.get("mask"), scale=D**-0.5).reshape(B, S, H)
        h = f.matmul_bias_act(context, a["out_w"], a["out_b"]) + hidden
        h = f.layer_norm(h, a["ln1_g"], a["ln1_b"], eps=1e-12)
        inner = f.matmul_bias_act(h, a["fc1_w"], a["fc1_b"], activation=activation)
        return f.layer_norm(
            f.matmul_bias_act(inner, a["fc2_w"], a["fc2_b"]) + h, a["ln2_g"], a["ln2_b"], eps=1e-5
        )

    return formula


FIRES = [
    *(
        Fires(a, lambda a=a: layer(activation=a), OP, expected(a))
        for a in ("gelu", "gelu_tanh", "relu", "silu")
    ),
    Fires("no mask", lambda: layer(masked=False), OP, expected()),
    Fires("two in a row", lambda: layer(layer(), "second."), OP, count=2),
    Fires("at the limit", layer, OP, tokens=64),
    Fires("half weights", lambda: layer(parts=(f16, f16, f16)), OP),
]


@pytest.mark.parametrize("case", FIRES, ids=str)
def test_fires(case: Fires) -> None:
    case.check()


def test_the_node_has_the_fourteen_operands() -> None:
    result, _ = fused(graph_of(layer))
    (node,) = (n for n in result.nodes if n.op.name == OP)
    assert list(node.op.operand_names) == OPERANDS and all(node.operands)
    assert node.attrs == {
        "num_heads": NUM_HEADS,
        "head_dim": D,
        "scale": D**-0.5,
        "eps1": 1e-12,
        "eps2": 1e-5,
        "activation": "gelu",
    }
    for name in ("qkv_w", "qkv_b"):
        packed = node.operands[OPERANDS.index(name)].node  # type: ignore[union-attr]
        assert packed.op.name == "concat" and packed.attrs == {"axis": 0}
        assert [v.node.attrs["key"] for v in packed.inputs] == [f"{n}_{name[-1]}" for n in "qkv"]


def read(part: int) -> Any:
    parts = layer(all_parts=True)
    return parts[0], neg(parts[part])


REFUSES = [
    Refuses("above the limit", layer, RULE, OP, "batch·seq = 65 > 64 (default)", tokens=65),
    Refuses("first norm read", lambda: read(1), RULE, OP, "result of layer_norm is also read by neg"),
    Refuses("activation read", lambda: read(2), RULE, OP, "result of gelu is also read by neg"),
    Refuses("context read", lambda: read(3), RULE, OP, "result of reshape is also read by neg"),
    Refuses("another function", lambda: layer(activation="exp"), RULE, OP, "expected gelu, found exp"),
    Refuses("another residual", lambda: layer(residual=x("r")), RULE, OP, "expected layer_norm, found param"),
    Refuses("norm without bias", lambda: layer(beta=False), RULE, OP, "layer_norm lacks its bias"),
    Refuses("mixed types", lambda: layer(parts=(f16, f32, f32)), RULE, OP, "q_w, k_w, v_w are f16, f32, f32"),
]


@pytest.mark.parametrize("case", REFUSES, ids=str)
def test_refuses(case: Refuses) -> None:
    case.check()


def test_a_near_miss_counts_what_agrees() -> None:
    _, found = fused(graph_of(lambda: layer(activation="exp")), only=RULE)
    best = found[RULE].misses[0]
    assert str(best) == "21/22 agree; [op] linear operand 'x': expected gelu, found exp"


def test_other_rules_get_what_is_refused() -> None:
    result = Fires("", layer, "residual_layer_norm", count=2, tokens=512).check()
    counts = {
        name: result.count(name) for name in ("shared_input_linear", "matmul_bias_act", "linear", "add")
    }
    assert counts == {"shared_input_linear": 1, "matmul_bias_act": 3, "linear": 0, "add": 0}
