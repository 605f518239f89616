"""At least one case for every op; the tests in this folder run over this table."""

from __future__ import annotations

import math
from typing import Any

import formulas as f
import numpy as np
from op_case import BSH, Case, flags, floats, ints, weight
from op_cases_layers import attentions, blocks, norms, products, recurrences, rotary

from rlxflow.dtypes import bool_, f32, i32, i64
from rlxflow.ir.dims import dim

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
