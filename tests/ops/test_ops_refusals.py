"""What type rules refuse: for every op at least one case, with the message a person reads."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

import rlxflow.ops  # noqa: F401
from rlxflow.dtypes import DType, bf16, bool_, f16, f32, i32, i64, q4_k, q8_0
from rlxflow.errors import GraphError
from rlxflow.ir.builder import GraphBuilder
from rlxflow.ir.op import OPS, emitting
from rlxflow.ir.values import Value
from rlxflow.ops.leaves import input_, param, state

o = dict(OPS)


def x(*shape: int | str, dtype: DType = f32) -> Value:
    return input_(key=f"x{shape}{dtype}", dtype=dtype, shape=shape)


def w(*shape: int, dtype: DType = f32) -> Value:
    return param(key=f"w{shape}{dtype}", dtype=dtype, shape=shape)


def cache(*shape: int | str, dtype: DType = f32) -> Value:
    return state(key=f"c{shape}{dtype}", dtype=dtype, shape=shape)


def heads(n: int | str = 2, tokens: str = "S", dtype: DType = f32) -> Value:
    return x("B", tokens, n, 4, dtype=dtype)


def count(dtype: DType = i32) -> Value:
    return x("B", dtype=dtype)


def delta(scale: float = 0.5, **changes: Value) -> Any:
    gate = x("B", "S", 2)
    operands = {"q": heads(), "k": heads(), "v": heads(), "g": gate, "beta": gate}
    return o["gated_delta_rule"](
        **{**operands, "state": cache("B", 2, 4, 4), "new_len": count(), **changes}, scale=scale
    )


def rope_tables(**changes: Any) -> Any:
    return o["rope_tables"](x("B", "S", dtype=i32), count(), **{"rotary_dim": 4, "theta": 1e4, **changes})


def scaled(kind: str, **settings: Any) -> Any:
    return rope_tables(scaling={"rope_type": kind, **settings})


UNARY_FLOAT = (
    *("exp", "erf", "tanh", "sqrt", "rsqrt", "gelu", "gelu_tanh", "quick_gelu", "silu", "relu", "relu2"),
    *("sigmoid", "softmax", "l2_normalize", "mean"),
)
BINARY = ("add", "sub", "mul", "div", "maximum", "minimum", "less")

REFUSALS: list[tuple[str, Callable[[], Any], str]] = [
    *((n, lambda n=n: o[n](x(3, dtype=i64)), "is i64, wanted a float type") for n in UNARY_FLOAT),
    *((n, lambda n=n: o[n](x(3), x(4)), "shapes [3] and [4] do not broadcast") for n in BINARY),
    *((n, lambda n=n: o[n](x("B", 3), x("S", 1)), "do not broadcast") for n in BINARY),
    *((n, lambda n=n: o[n](x(3), x(3, dtype=f16)), "b is f16, wanted f32") for n in BINARY),
    *((n, lambda n=n: o[n](x(3, dtype=bool_), x(3, dtype=bool_)), "is bool, wanted a") for n in BINARY),
    *((n, lambda n=n: o[n](w(3, 256, dtype=q4_k), x(256)), "q4_k, wanted a") for n in BINARY),
    ("add", lambda: o["add"](w(3, dtype=f16), w(3)), "b is f32, wanted f16"),
    ("div", lambda: o["div"](x(3, dtype=i64), x(3, dtype=i64)), "wanted a float type"),
    ("where", lambda: o["where"](x(3), x(3), x(3)), "condition is f32, wanted bool"),
    ("where", lambda: o["where"](x(3, dtype=bool_), x(3), x(3, dtype=i64)), "b is i64, wanted f32"),
    ("where", lambda: o["where"](x(2, dtype=bool_), x(3), x(3)), "do not broadcast"),
    ("cast", lambda: o["cast"](x(3), dtype=q4_k), "cannot cast to packed q4_k"),
    ("cast", lambda: o["cast"](w(3, 256, dtype=q4_k), dtype=f32), "x is packed q4_k"),
    ("neg", lambda: o["neg"](x(3, dtype=bool_)), "x is bool, wanted a number type"),
    ("input", lambda: input_(key="x", dtype=q8_0, shape=(32,)), "input 'x' is packed q8_0"),
    ("input", lambda: input_(key="", dtype=f32, shape=(32,)), "the key is empty"),
    ("param", lambda: param(key="", dtype=f32, shape=(32,)), "the key is empty"),
    ("state", lambda: cache(4, dtype=i64), "is i64"),
    ("constant", lambda: o["constant"](data=b"123", dtype=f32, shape=(1,)), "constant has 3 bytes"),
    ("constant", lambda: o["constant"](data=b"1234", dtype=f32, shape=("B",)), "constant has 4 bytes"),
    ("full", lambda: o["full"](value=0.5, dtype=i64, shape=(2,)), "0.5 is not a value of i64"),
    ("full", lambda: o["full"](value=float("inf"), dtype=i32, shape=()), "inf is not a value of i32"),
    ("iota", lambda: o["iota"](size=-1, dtype=i64), "cannot count to -1"),
    (
        "resize_grid",
        lambda: o["resize_grid"](w(12, 4), old=(3, 5), new=(2, 2)),
        "rows of the grid is 12, wanted 15",
    ),
    (
        "resize_grid",
        lambda: o["resize_grid"](w(12, 4), old=(3, 4), new=(0, 2)),
        "a grid cannot be resized from (3, 4) to (0, 2)",
    ),
    (
        "relative_buckets",
        lambda: o["relative_buckets"](size=3, num_buckets=6, max_distance=128),
        "6 buckets up to distance 128",
    ),
    ("iota", lambda: o["iota"](size=3, dtype=bool_), "in bool"),
    ("reshape", lambda: o["reshape"](x("B", 6), shape=("B", 5)), "cannot reshape [B,6] to [B,5]"),
    ("reshape", lambda: o["reshape"](x("B", "S"), shape=("B", "B")), "cannot reshape"),
    ("reshape", lambda: o["reshape"](w(2, 256, dtype=q4_k), shape=(512,)), "x is packed q4_k"),
    ("transpose", lambda: o["transpose"](x(2, 3), perm=(0, 0)), "(0, 0) is not a permutation of 2 axes"),
    ("transpose", lambda: o["transpose"](x(2, 3), perm=(0,)), "is not a permutation"),
    ("transpose", lambda: o["transpose"](w(2, 256, dtype=q4_k), perm=(1, 0)), "x is packed q4_k"),
    ("slice", lambda: o["slice"](x(2, 3), axis=1, start=2, stop=4), "slice 2:4 does not fit size 3"),
    ("slice", lambda: o["slice"](x(2, 3), axis=1, start=-1, stop=2), "slice -1:2 does not fit"),
    ("slice", lambda: o["slice"](x(2, 3), axis=1, start=1, stop=1), "slice 1:1 does not fit"),
    ("slice", lambda: o["slice"](x(2, 3), axis=2, start=0, stop=1), "axis 2 is outside rank 2"),
    ("slice", lambda: o["slice"](w(2, 256, dtype=q4_k), axis=1, start=0, stop=32), "x is packed q4_k"),
    ("concat", lambda: o["concat"](axis=0), "concat wants at least one operand"),
    ("concat", lambda: o["concat"](x(2, 3), x(3), axis=0), "operand has rank 1 [3], wanted 2"),
    ("concat", lambda: o["concat"](x(2, 3), x(2, 4), axis=0), "axis 1 is 4, wanted 3"),
    ("concat", lambda: o["concat"](x(2, 3), x(2, 3, dtype=f16), axis=0), "operand is f16, wanted f32"),
    ("broadcast_to", lambda: o["broadcast_to"](x(3), shape=(3, 2)), "shapes [3,2] and [3] do not broadcast"),
    ("broadcast_to", lambda: o["broadcast_to"](x(2, 3), shape=(3,)), "[2,3] does not broadcast to [3]"),
    ("gather", lambda: o["gather"](w(5, 4), x("B")), "ids is f32, wanted an integer type"),
    ("gather", lambda: o["gather"](x(), x("B", dtype=i64)), "table has rank 0 [], wanted 1 or more"),
    ("select_token", lambda: o["select_token"](x("B", "S"), x("B")), "index is f32, wanted an integer"),
    ("select_token", lambda: o["select_token"](x("B"), count()), "x has rank 1 [B], wanted 2 or more"),
    ("select_token", lambda: o["select_token"](x("S", "B"), count()), "batch of index is B, wanted S"),
    ("linear", lambda: o["linear"](x("B", 4), w(3, 5)), "x has width 4, the weight takes 5"),
    ("linear", lambda: o["linear"](x("B", 4), w(4)), "weight has rank 1 [4], wanted 2"),
    ("linear", lambda: o["linear"](x("B", 4, dtype=i64), w(4, 4)), "x is i64, wanted a float type"),
    ("linear", lambda: o["linear"](x("B", 4), w(4, 4, dtype=i32)), "weight is i32, wanted a float or packed"),
    ("linear", lambda: o["linear"](x(), w(4, 4)), "axis -1 is outside []"),
    ("matmul", lambda: o["matmul"](x(2, 3), x(4, 5)), "rows of b is 4, wanted 3"),
    ("matmul", lambda: o["matmul"](x(3), x(3, 5)), "a has rank 1 [3], wanted 2 or more"),
    ("matmul", lambda: o["matmul"](x(2, 2, 3), x(3, 3, 5)), "do not broadcast"),
    ("softmax", lambda: o["softmax"](x(2), axis=1), "axis 1 is outside rank 1"),
    ("softmax", lambda: o["softmax"](x(), axis=-1), "axis -1 is outside rank 0"),
    ("l2_normalize", lambda: o["l2_normalize"](x()), "x has rank 0 [], wanted 1 or more"),
    ("layer_norm", lambda: o["layer_norm"](x("B", 4), w(3), eps=1e-5), "weight is [3], wanted [4]"),
    ("layer_norm", lambda: o["layer_norm"](x("B", 4), w(4), w(1, 4), eps=1e-5), "bias is [1,4], wanted [4]"),
    ("layer_norm", lambda: o["layer_norm"](x("B", 4), w(4, dtype=i32), eps=1.0), "weight is i32"),
    ("rms_norm", lambda: o["rms_norm"](x("B", 4), w(3), eps=1e-5), "weight is [3], wanted [4]"),
    ("mean_pool", lambda: o["mean_pool"](x("B", 4), x("B", "S", dtype=i64)), "x has rank 2 [B,4], wanted 3"),
    (
        "mean_pool",
        lambda: o["mean_pool"](x("B", "S", 4), x("B", "T", dtype=i64)),
        "mask is [B,T], wanted [B,S]",
    ),
    ("mean_pool", lambda: o["mean_pool"](x("B", "S", 4), x("B", "S")), "mask is f32"),
    ("rope_tables", lambda: rope_tables(rotary_dim=3), "rotary_dim is 3"),
    ("rope_tables", lambda: rope_tables(rotary_dim=0), "rotary_dim is 0"),
    ("rope_tables", lambda: rope_tables(rotary_dim=10**12), "rotary_dim is 1000000000000"),
    ("rope_tables", lambda: rope_tables(theta=0.0), "theta 0.0"),
    ("rope_tables", lambda: rope_tables(theta=-3.0), "finite and positive"),
    (
        "rope_tables",
        lambda: o["rope_tables"](x("B", "S"), count(), rotary_dim=4, theta=1e4),
        "positions is f32",
    ),
    ("rope_tables", lambda: scaled("yarn2"), "unknown rope type 'yarn2'"),
    ("rope_tables", lambda: scaled("linear"), "rope type 'linear' needs 'factor'"),
    ("rope_tables", lambda: scaled("linear", factor=0), "finite and positive"),
    ("rope_tables", lambda: scaled("linear", factor="two"), "rope type 'linear'"),
    ("rope_tables", lambda: scaled("linear", factor=-1.0), "finite and positive"),
    (
        "rope_tables",
        lambda: scaled("longrope", factor=1, original_max_position_embeddings=9, short_factor=[1.0]),
        "1 factors for 2 channel pairs",
    ),
    (
        "rope",
        lambda: o["rope"](x("B", "S", 4), x("B", "S", 2), x("B", "S", 2)),
        "cos has rank 3 [B,S,2], wanted 2",
    ),
    (
        "rope",
        lambda: o["rope"](heads(), x("B", "S", 3), x("B", "S", 3)),
        "tables rotate 6 channels of heads with 4",
    ),
    ("rope", lambda: o["rope"](x("B", 4), x("B", 2), x("B", 2)), "x has rank 2 [B,4], wanted 3 or 4"),
    ("rope", lambda: o["rope"](heads(), x("B", "T", 2), x("B", "T", 2)), "cos is [B,T,2], wanted [B,S,2]"),
    ("rope", lambda: o["rope"](heads(), x("B", "S", 2), x("B", "S", 1)), "sin is [B,S,1], wanted [B,S,2]"),
    ("rope", lambda: o["rope"](heads(), x("B", "S", 2, dtype=i64), x("B", "S", 2)), "cos is i64"),
    (
        "attention",
        lambda: o["attention"](heads(), heads(3), heads(3), scale=1.0),
        "3 key heads do not divide 2",
    ),
    (
        "attention",
        lambda: o["attention"](heads(), heads(0), heads(0), scale=1.0),
        "0 key heads do not divide 2",
    ),
    (
        "attention",
        lambda: o["attention"](heads(), heads(), heads(1), scale=1.0),
        "v is [B,S,1,4], wanted [B,S,2,4]",
    ),
    ("attention", lambda: o["attention"](heads(), heads(dtype=i64), heads(), scale=1.0), "k is i64"),
    ("attention", lambda: o["attention"](x("B", "S", 8), heads(), heads(), scale=1.0), "q has rank 3"),
    (
        "attention",
        lambda: o["attention"](heads(), heads(), heads(), x("B", "S"), scale=1.0),
        "mask is f32",
    ),
    (
        "attention",
        lambda: o["attention"](heads(), heads(2, "T"), heads(2, "T"), x("B", "S", dtype=i64), scale=1.0),
        "mask is [B,S], wanted [B,T]",
    ),
    (
        "attention",
        lambda: o["attention"](heads(), heads(), heads(), None, x("S", "S"), scale=1.0),
        "bias is [S,S], wanted [2,S,S]",
    ),
    ("attention", lambda: o["attention"](heads(), heads(), heads(), scale=float("inf")), "scale is inf"),
    ("attention", lambda: o["attention"](heads(), heads(), heads(), scale=1.0, window=-1), "window is -1"),
    ("attention", lambda: o["attention"](heads(), heads(), heads(), scale=1.0, softcap=-1.0), "softcap -1.0"),
    (
        "cached_attention",
        lambda: o["cached_attention"](
            heads(), x("B", 2, "C", 4), x("B", 2, "C", 4), count(), count(), scale=1.0
        ),
        "keys and values must be cache states",
    ),
    (
        "cached_attention",
        lambda: o["cached_attention"](
            heads(), cache("B", 2, "C", 4), cache("B", 2, "C", 4), count(f32), count(), scale=1.0
        ),
        "past_len is f32",
    ),
    (
        "cached_attention",
        lambda: o["cached_attention"](
            heads(), cache("B", 2, "C", 8), cache("B", 2, "C", 8), count(), count(), scale=1.0
        ),
        "head_dim of k is 8, wanted 4",
    ),
    (
        "cache_append",
        lambda: o["cache_append"](cache("B", 2, "C", 4), heads(3), count(), count()),
        "new is [B,S,3,4], wanted [B,S,2,4]",
    ),
    (
        "cache_append",
        lambda: o["cache_append"](cache("B", 2, "C", 4), heads(), count(f32), count()),
        "past_len is f32",
    ),
    ("gated_delta_rule", lambda: delta(g=x("B", "S", 3)), "g is [B,S,3], wanted [B,S,2]"),
    ("gated_delta_rule", lambda: delta(v=heads(3)), "v is [B,S,3,4], wanted [B,S,2,4]"),
    ("gated_delta_rule", lambda: delta(state=cache("B", 2, 4, 5)), "state is [B,2,4,5], wanted [B,2,4,4]"),
    ("gated_delta_rule", lambda: delta(state=heads()), "state is not a state"),
    ("gated_delta_rule", lambda: delta(new_len=count(f32)), "new_len is f32"),
    ("gated_delta_rule", lambda: delta(scale=math.inf), "scale is inf"),
    ("matmul_bias_act", lambda: o["matmul_bias_act"](x("B", 4), w(3, 4), w(4)), "bias is [4], wanted [3]"),
    ("matmul_bias_act", lambda: o["matmul_bias_act"](x("B", 4), w(3, 4), w(3, dtype=i32)), "b is i32"),
    (
        "matmul_bias_act",
        lambda: o["matmul_bias_act"](x("B", 4), w(3, 4), activation="swish"),
        "activation' is 'swish'",
    ),
    ("gated_mlp", lambda: o["gated_mlp"](x("B", 4), w(8, 4), w(7, 4), w(4, 8)), "up is [7,4], wanted [8,4]"),
    (
        "gated_mlp",
        lambda: o["gated_mlp"](x("B", 4), w(8, 4), w(8, 4), w(4, 7)),
        "input width of down is 7, wanted 8",
    ),
    ("gated_mlp", lambda: o["gated_mlp"](x("B", 4), w(8, 4), w(8, 4), w(8)), "down has rank 1"),
    (
        "residual_layer_norm",
        lambda: o["residual_layer_norm"](x("B", 4), x("S", 4), w(4), eps=1.0),
        "residual is [S,4], wanted [B,4]",
    ),
    (
        "residual_layer_norm",
        lambda: o["residual_layer_norm"](x("B", 4), x("B", 4), w(3), eps=1.0),
        "weight is [3], wanted [4]",
    ),
    (
        "residual_rms_norm",
        lambda: o["residual_rms_norm"](x("B", 4), x("B", 4, dtype=f16), w(4), eps=1.0),
        "residual is f16, wanted f32",
    ),
    ("elementwise_region", lambda: o["elementwise_region"](x(3), program=()), "the program is empty"),
    (
        "elementwise_region",
        lambda: o["elementwise_region"](x(3), program=(("linear", (0, 1), ()),)),
        "is not an elementwise op on values before it",
    ),
    (
        "elementwise_region",
        lambda: o["elementwise_region"](x(3), x(4), program=(("add", (0, 1), ()),)),
        "shapes [3] and [4] do not broadcast",
    ),
]


@pytest.mark.parametrize(
    ("name", "call", "message"), REFUSALS, ids=[f"{i}-{name}" for i, (name, _, _) in enumerate(REFUSALS)]
)
def test_refused(name: str, call: Callable[[], Any], message: str) -> None:
    builder = GraphBuilder()
    with emitting(builder), builder.scope("layers.1"), pytest.raises(GraphError) as caught:
        call()
    assert message in caught.value.message
    assert caught.value.where == "layers.1" or caught.value.code == "RLX-I005"
    assert "\n" not in caught.value.message


def test_every_op_refuses_something() -> None:
    assert {name for name, op in OPS.items() if op.rule.__module__.startswith("rlxflow.ops.")} == {
        n for n, _, _ in REFUSALS
    }


def test_a_transposed_weight_is_recognised() -> None:
    with emitting(GraphBuilder()), pytest.raises(GraphError) as caught:
        o["linear"](x("B", 4), w(4, 5))
    assert caught.value.hint == "the weight looks transposed"


@pytest.mark.parametrize("stored", [f16, bf16, f32])
def test_a_stored_weight_takes_the_dtype_it_meets(stored: DType) -> None:
    with emitting(GraphBuilder()):
        assert o["add"](x("B", 4), w(4, dtype=stored)).dtype == f32
        assert o["mul"](w(4, dtype=stored), x("B", 4, dtype=f16)).dtype == f16
        assert o["matmul_bias_act"](x("B", 4), w(3, 4, dtype=stored), w(3, dtype=stored)).dtype == f32
        assert o["layer_norm"](x("B", 4), w(4, dtype=stored), w(4, dtype=stored), eps=1.0).dtype == f32
        assert o["gather"](w(9, 4, dtype=stored), x("B", dtype=i64)).dtype == f32


def test_packed_weights_keep_whole_row_moves() -> None:
    with emitting(GraphBuilder()):
        packed = w(4, 256, dtype=q4_k)
        assert o["concat"](packed, packed, axis=0).shape == (8, 256)
        assert o["slice"](packed, axis=0, start=1, stop=3).shape == (2, 256)
        assert o["gather"](packed, x("B", dtype=i64)).dtype == f32
        assert o["linear"](x("B", 256), packed).dtype == f32
        stacked = w(2, 4, 256, dtype=q4_k)
        assert o["transpose"](stacked, perm=(1, 0, 2)).shape == (4, 2, 256)
