"""At least one case for every op; the tests in this folder run over this table."""

from __future__ import annotations

import math
from typing import Any

import formulas as f
import numpy as np
from op_case import Case, flags, floats, ints, lengths, weight

from rlxflow.dtypes import bool_, f32, i32, i64
from rlxflow.ir.dims import dim

BSH = ("B", "S", "H")
HOLES = np.array([[1, 0, 1, 1, 0, 0, 1], [0, 0, 0, 0, 0, 0, 0]])  # the second row has no valid key

BINARY = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "maximum": max,
    "minimum": min,
    "less": lambda a, b: a < b,
}
UNARY = {
    "neg": lambda x: -x,
    "exp": math.exp,
    "erf": math.erf,
    "tanh": math.tanh,
    "sqrt": math.sqrt,
    "rsqrt": lambda x: 1 / math.sqrt(x),
    **{name: fn for name, fn in f.ACTIVATIONS.items() if name not in ("none", "tanh")},
}


def elementwise() -> list[Case]:
    cases = []
    for name, fn in BINARY.items():
        positive = {"low": 0.5, "high": 2.0}
        shapes = {
            "same": (floats(*BSH), floats(*BSH, **positive)),
            "row": (floats(*BSH), floats("H", **positive)),
            "column": (floats("B", "S", 1), floats("S", "H", **positive)),
            "scalar": (floats(), floats("B", 1, "H", **positive)),
        }
        cases += [Case(name, operands, f.each(fn), name=how) for how, operands in shapes.items()]
        if name != "div":
            cases.append(Case(name, (ints("B", 1), ints("S")), f.each(fn), name="integers"))
    for name, fn in UNARY.items():
        low = 0.1 if "sqrt" in name else -6.0
        cases.append(Case(name, (floats(*BSH, low=low, high=6.0),), f.each(fn)))
        cases.append(Case(name, (floats(low=low, high=6.0),), f.each(fn), name="scalar"))
    pick = f.each(lambda c, a, b: a if c else b)
    cases += [
        Case("where", (flags(*BSH), floats(*BSH), floats(*BSH)), pick),
        Case("where", (flags("B", 1, 1), floats("S", "H"), floats()), pick, name="broadcast"),
        Case("where", (flags("B"), ints("B"), ints("B")), pick, name="integers"),
        Case("cast", (floats(*BSH),), lambda x, *, dtype: np.trunc(x), {"dtype": i32}, name="to-integers"),
        Case("cast", (ints("B"),), lambda x, *, dtype: x != 0, {"dtype": bool_}, name="to-flags"),
        Case("cast", (ints("B"),), lambda x, *, dtype: x, {"dtype": f32}, name="to-floats"),
        Case(
            "elementwise_region",
            (floats(*BSH), floats("H")),
            lambda x, w, *, program: f.each(lambda a, b: (math.tanh(a) - b) * a)(x, w),
            {"program": (("tanh", (0,), ()), ("sub", (2, 1), ()), ("mul", (3, 0), ()))},
        ),
    ]
    return cases


def leaves() -> list[Case]:
    def filled(*, value: float, dtype: Any, shape: tuple[int, ...]) -> Any:
        return np.array([value] * math.prod(shape)).reshape(shape)

    def counted(*, size: int, dtype: Any) -> Any:
        return np.array(list(range(size)))

    data = np.arange(6, dtype="<i4").tobytes()
    return [
        Case("full", (), filled, {"value": -math.inf, "dtype": f32, "shape": (dim("B"), 3)}),
        Case("full", (), filled, {"value": 3.0, "dtype": i64, "shape": ()}, name="integer"),
        Case("iota", (), counted, {"size": dim("S"), "dtype": i64}),
        Case("iota", (), counted, {"size": 0, "dtype": f32}, name="empty"),
        Case("relative_buckets", (), f.buckets, {"size": dim("S"), "num_buckets": 8, "max_distance": 5}),
        Case(
            "relative_buckets",
            (),
            f.buckets,
            {"size": 300, "num_buckets": 32, "max_distance": 128},
            name="t5",
        ),
        Case(
            "constant",
            (),
            lambda **_: np.array([[0, 1, 2], [3, 4, 5]]),
            {"data": data, "dtype": i32, "shape": (2, 3)},
        ),
    ]


def moving() -> list[Case]:
    def gathered(table: np.ndarray[Any, Any], ids: np.ndarray[Any, Any]) -> Any:
        return np.array([table[i] for i in ids.ravel()]).reshape((*ids.shape, *table.shape[1:]))

    def sliced(x: np.ndarray[Any, Any], *, axis: int, start: int, stop: int) -> Any:
        return np.moveaxis(np.array([np.moveaxis(x, axis, 0)[i] for i in range(start, stop)]), 0, axis)

    return [
        Case(
            "reshape",
            (floats("B", "S", 6),),
            lambda x, *, shape: np.array(x.ravel().tolist()).reshape(shape),
            {"shape": (dim("B"), dim("S"), 2, 3)},
        ),
        Case(
            "reshape",
            (floats("B", 1, "H"),),
            lambda x, *, shape: x[:, 0],
            {"shape": (dim("B"), dim("H"))},
            name="squeeze",
        ),
        Case(
            "reshape", (floats(*BSH),), lambda x, *, shape: x.ravel(), {"shape": (dim("B*S*H"),)}, name="flat"
        ),
        Case("transpose", (floats(*BSH),), lambda x, *, perm: np.einsum("bsh->bhs", x), {"perm": (0, 2, 1)}),
        Case(
            "transpose",
            (floats(*BSH, "D"),),
            lambda x, *, perm: np.einsum("bshd->dhsb", x),
            {"perm": (3, 2, 1, 0)},
            name="reversed",
        ),
        Case("resize_grid", (floats(12, "H"),), f.resize_grid, {"old": (3, 4), "new": (5, 2)}),
        Case("resize_grid", (floats(4, "H"),), f.resize_grid, {"old": (2, 2), "new": (7, 7)}, name="larger"),
        Case("slice", (floats(*BSH),), sliced, {"axis": 2, "start": 1, "stop": 4}),
        Case("slice", (floats(*BSH),), sliced, {"axis": 1, "start": 0, "stop": 1}, name="first"),
        Case("slice", (floats(*BSH),), sliced, {"axis": -3, "start": 1, "stop": 2}, name="batch"),
        Case(
            "concat",
            (floats(*BSH), floats("B", "S", "D")),
            lambda a, b, *, axis: np.array(
                [[[*p, *q] for p, q in zip(r, s, strict=True)] for r, s in zip(a, b, strict=True)]
            ),
            {"axis": -1},
        ),
        Case(
            "concat",
            (ints("B"),) * 3,
            lambda *xs, axis: np.array([v for x in xs for v in x]),
            {"axis": 0},
            name="three",
        ),
        Case("concat", (floats("B"),), lambda x, *, axis: x, {"axis": 0}, name="one"),
        Case(
            "broadcast_to",
            (floats("S", 1),),
            lambda x, *, shape: np.array([[[x[s, 0]] * 6 for s in range(5)]] * 2),
            {"shape": (dim("B"), dim("S"), dim("H"))},
        ),
        Case("gather", (weight("K", "H"), ints("B", "S", below=8)), gathered),
        Case("gather", (floats("K"), ints(below=8)), gathered, name="scalar"),
        Case("gather", (weight("K", 2, 3), ints("S", below=8, dtype=i32)), gathered, name="wide"),
        Case(
            "select_token",
            (floats(*BSH), ints("B", below=5, dtype=i32)),
            lambda x, index: np.array([row[i] for row, i in zip(x, index, strict=True)]),
        ),
        Case(
            "select_token",
            (floats("B", "S"), ints("B", below=5)),
            lambda x, index: np.array([row[i] for row, i in zip(x, index, strict=True)]),
            name="scalars",
        ),
    ]


def products() -> list[Case]:
    heads = "bhmk,bhkn->bhmn"
    return [
        Case("linear", (floats(*BSH), weight("N", "H")), f.linear),
        Case("linear", (floats("H"), weight("N", "H")), f.linear, name="vector"),
        Case("linear", (floats("B", "S", "T", 1), weight(1, 1)), f.linear, name="one"),
        Case(
            "matmul",
            (floats("B", 2, "S", "D"), floats("B", 2, "D", "N")),
            lambda a, b: np.einsum(heads, a, b),
        ),
        Case(
            "matmul",
            (floats("S", "D"), floats("D", "N")),
            lambda a, b: np.einsum("mk,kn->mn", a, b),
            name="plain",
        ),
        Case(
            "matmul",
            (floats("B", 1, "S", "D"), floats(2, "D", "N")),
            lambda a, b: np.einsum("bmk,hkn->bhmn", a[:, 0], b),
            name="broadcast",
        ),
    ]


def norms() -> list[Case]:
    w, b = weight("H"), weight("H")
    return [
        Case("layer_norm", (floats(*BSH), w, b), f.layer_norm, {"eps": 1e-12}),
        Case("layer_norm", (floats("H", low=5, high=7), w), f.layer_norm, {"eps": 1e-5}, name="no-bias"),
        Case(
            "layer_norm",
            (floats("B", "H", low=-1e-4, high=1e-4), w, b),
            f.layer_norm,
            {"eps": 0.1},
            name="large-eps",
        ),
        Case("rms_norm", (floats(*BSH), w), f.rms_norm, {"eps": 1e-6}),
        Case(
            "rms_norm",
            (floats("B", "S", 2, "H"), w),
            f.rms_norm,
            {"eps": 0.5, "unit_offset": True},
            name="offset",
        ),
        Case(
            "mean", (floats(*BSH),), lambda x: np.vectorize(math.fsum, signature="(n)->()")(x)[..., None] / 6
        ),
        Case("softmax", (floats(*BSH, low=-30, high=30),), f.softmax),
        Case("softmax", (floats(*BSH, low=900, high=1000),), f.softmax, {"axis": 1}, name="large"),
        Case("softmax", (floats("B", low=-3, high=3),), f.softmax, {"axis": -1}, name="vector"),
        Case("l2_normalize", (floats(*BSH),), f.l2_normalize),
        Case("l2_normalize", (floats("B", "H", fill=np.zeros),), f.l2_normalize, name="zeros"),
        Case(
            "l2_normalize",
            (floats("B", "H", low=-0.01, high=0.01),),
            f.l2_normalize,
            {"eps": 0.5},
            name="large-eps",
        ),
        Case("mean_pool", (floats(*BSH), ints("B", "S", below=2)), f.mean_pool),
        Case(
            "mean_pool",
            (floats("B", "T", "H"), flags("B", "T", fill=lambda _: HOLES)),
            f.mean_pool,
            name="holes",
        ),
    ]


def rotary() -> list[Case]:
    base = {"rotary_dim": 4, "theta": 10000.0}
    scaled = {**base, "scaling": (("factor", 4.0), ("rope_type", "linear"))}
    at = ints("B", "S", below=40, dtype=i32)
    q, table = floats("B", "S", "N", "D"), floats("B", "S", 2)
    return [
        Case("rope_tables", (at, ints("B", dtype=i32)), f.rope_tables, base),
        Case("rope_tables", (at, ints("B", dtype=i32)), f.rope_tables, scaled, name="linear"),
        Case("rope", (q, table, table), f.rope),
        Case("rope", (q, table, table), f.rope, {"interleaved": True}, name="interleaved"),
        Case("rope", (floats("B", "S", 1, "K"), table, table), f.rope, name="partial"),
        Case(
            "rope",
            (floats("B", "S", 2, 7), floats("B", "S", 1), floats("B", "S", 1)),
            f.rope,
            {"interleaved": True},
            name="partial-interleaved",
        ),
    ]


def attentions() -> list[Case]:
    def qkv(heads: int, kv: int, queries: str = "S", keys: str = "S", width: str = "D") -> tuple[Any, ...]:
        return floats("B", queries, heads, width), floats("B", keys, kv, width), floats("B", keys, kv, width)

    holes = ints("B", "T", fill=lambda _: HOLES)
    variants: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
        "plain": (qkv(2, 2), {"scale": 0.5}),
        "gqa": (qkv(6, 2), {"scale": 0.5}),
        "mqa": (qkv(3, 1), {"scale": -0.3}),
        "cross": (qkv(2, 1, "S", "T"), {"scale": 1.0}),
        "odd": (qkv(5, 5, width="H"), {"scale": 0.7}),
        "holes": ((*qkv(4, 2, "S", "T"), holes), {"scale": 0.5}),
        "bool-mask": ((*qkv(2, 2, "T", "T"), flags("B", "T", fill=lambda _: HOLES)), {"scale": 0.5}),
        "bias": ((*qkv(2, 1), None, floats(2, "S", "S")), {"scale": 0.5}),
        "mask-and-bias": ((*qkv(2, 1, "S", "T"), holes, floats(2, "S", "T")), {"scale": 0.5, "softcap": 1.5}),
        "causal": (qkv(2, 2), {"scale": 0.5, "causal": True}),
        "causal-suffix": (qkv(2, 2, "S", "T"), {"scale": 0.5, "causal": True}),
        "causal-fewer-keys": (qkv(2, 2, "T", "S"), {"scale": 0.5, "causal": True}),
        "softcap": (qkv(4, 2), {"scale": 3.0, "softcap": 2.0}),
        "window": (qkv(2, 2), {"scale": 0.5, "window": 1}),
        "causal-window": (qkv(2, 2), {"scale": 0.5, "causal": True, "window": 2}),
        "causal-window-one": (qkv(2, 2), {"scale": 0.5, "causal": True, "window": 1}),
        "all": ((*qkv(4, 2, "S", "T"), holes), {"scale": 2.0, "causal": True, "window": 3, "softcap": 5.0}),
        "steep": (qkv(2, 2), {"scale": 200.0}),
        "sinks": ((*qkv(4, 2, "S", "T"), holes, None, weight(4)), {"scale": 0.5, "softcap": 2.0}),
    }
    cases = [
        Case("attention", operands, f.attention, attrs, name=name)
        for name, (operands, attrs) in variants.items()
    ]

    def cached(heads: int, kv: int, past: tuple[int, int], new: tuple[int, int]) -> tuple[Any, ...]:
        cache = floats("B", kv, "C", "D", role="state")
        return floats("B", "S", heads, "D"), cache, cache, lengths(*past), lengths(*new)

    steps: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
        "prefill": (cached(2, 2, (0, 0), (5, 3)), {"scale": 0.5}),
        "chunk": (cached(4, 2, (4, 1), (5, 2)), {"scale": 0.5}),
        "decode": (cached(2, 1, (8, 3), (1, 1)), {"scale": 0.5, "softcap": 3.0}),
        "idle-row": (cached(2, 1, (4, 0), (0, 5)), {"scale": 0.5}),
        "window": (cached(2, 2, (4, 2), (5, 5)), {"scale": 0.5, "window": 3}),
        "sinks": ((*cached(4, 2, (4, 1), (5, 2)), weight(4)), {"scale": 0.5}),
    }
    cases += [Case("cached_attention", o, f.cached_attention, a, name=name) for name, (o, a) in steps.items()]
    cache, new = floats("B", "N", "C", "D", role="state"), floats("B", "S", "N", "D")
    cases += [
        Case("cache_append", (cache, new, lengths(0, 0), lengths(5, 3)), f.cache_append, name="first"),
        Case("cache_append", (cache, new, lengths(4, 8), lengths(5, 1)), f.cache_append, name="to-the-end"),
        Case("cache_append", (cache, new, lengths(9, 0), lengths(0, 0)), f.cache_append, name="nothing"),
    ]
    return cases


def recurrences() -> list[Case]:
    def operands(*new: int) -> tuple[Any, ...]:
        heads, gate = floats("B", "S", "N", "D"), floats("B", "S", "N", low=-1.0, high=0.0)
        state = floats("B", "N", "D", "K", role="state")
        return heads, heads, floats("B", "S", "N", "K"), gate, gate, state, lengths(*new)

    return [
        Case("gated_delta_rule", operands(5, 2), f.gated_delta_rule, {"scale": 0.5}),
        Case("gated_delta_rule", operands(0, 1), f.gated_delta_rule, {"scale": 1.0}, name="idle-row"),
    ]


def blocks() -> list[Case]:
    x, r, w, b = floats(*BSH), floats(*BSH), weight("H"), weight("H")
    gate, down = weight("K", "H"), weight("N", "K")
    cases = [
        Case(
            "matmul_bias_act",
            (x, weight("N", "H"), weight("N")),
            f.matmul_bias_act,
            {"activation": name},
            name=name,
        )
        for name in f.ACTIVATIONS
    ]
    return [
        *cases,
        Case(
            "matmul_bias_act",
            (x, weight("N", "H")),
            f.matmul_bias_act,
            {"activation": "gelu"},
            name="no-bias",
        ),
        Case("gated_mlp", (x, gate, gate, down), f.gated_mlp),
        Case(
            "gated_mlp",
            (floats("H"), gate, gate, down),
            f.gated_mlp,
            {"activation": "gelu_tanh"},
            name="geglu",
        ),
        Case(
            "residual_layer_norm",
            (x, r, w, b),
            lambda x, r, *wb, eps: f.layer_norm(x + r, *wb, eps=eps),
            {"eps": 1e-12},
        ),
        Case(
            "residual_layer_norm",
            (x, r, w),
            lambda x, r, *wb, eps: f.layer_norm(x + r, *wb, eps=eps),
            {"eps": 1e-5},
            name="no-bias",
        ),
        Case(
            "residual_rms_norm",
            (x, r, w),
            lambda x, r, w, *, eps: (x + r, f.rms_norm(x + r, w, eps=eps)),
            {"eps": 1e-6},
        ),
        Case(
            "residual_rms_norm",
            (x, r, w),
            lambda x, r, w, *, eps, unit_offset: (
                x + r,
                f.rms_norm(x + r, w, eps=eps, unit_offset=unit_offset),
            ),
            {"eps": 1e-6, "unit_offset": True},
            name="offset",
        ),
    ]


CASES = [
    *elementwise(),
    *leaves(),
    *moving(),
    *products(),
    *norms(),
    *rotary(),
    *attentions(),
    *recurrences(),
    *blocks(),
]
