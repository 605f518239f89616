"""The table of kernel cases: op × width × shape of the batch × kind of input × dtype of ids or masks.

`python tests/backends/cpu/kernel_table.py` counts them; `test_kernel_table.py` runs them, per target and in
checked mode, against the reference backend.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import rlxflow.ops  # noqa: F401  (fills the op table)
from rlxflow.dtypes import DType, f32, i32, i64
from rlxflow.ir.dims import dim
from rlxflow.ir.op import OPS
from rlxflow.ir.values import Value
from rlxflow.ops.attention import attention
from rlxflow.ops.elementwise import less, where
from rlxflow.ops.leaves import full, iota
from rlxflow.ops.linear import linear
from rlxflow.ops.norm import l2_normalize, layer_norm, rms_norm, softmax
from rlxflow.ops.pooling import mean_pool
from rlxflow.ops.shape import broadcast_to, concat, gather, reshape, slice_

Array = np.ndarray[Any, np.dtype[Any]]
Values = Mapping[str, Value]
B, S = dim("B"), dim("S")
WIDTHS = (1, 16, 33, 70)
SHAPES = ((1, 1), (1, 7), (3, 16), (5, 2))  # batch, tokens
SPECIAL = (np.inf, np.nan, -np.inf, -0.0, 1e-40)
KINDS = ("plain", "special", "strided", "read-only", "ragged", "holes")
UNARY = ("neg", "exp", "tanh", "sqrt", "rsqrt", "gelu", "gelu_tanh", "quick_gelu", "silu", "relu", "relu2",
         "sigmoid")  # fmt: skip
BINARY = ("add", "sub", "mul", "div", "maximum", "minimum")
HEADS = ((1, 1), (4, 2), (6, 1))  # query heads, key heads


@dataclass(frozen=True)
class Row:
    """One op at all its widths: `build(values, params, width)` gives its result.

    `tolerance` is relative to max(1, max|result|); `special`: NaN and infinities go through it as in NumPy.
    """

    name: str
    build: Callable[[Values, Values, int], Value]
    tolerance: float = 2e-6
    params: Callable[[np.random.Generator, int], dict[str, Array]] = lambda rng, w: {}
    widths: tuple[int, ...] = WIDTHS
    special: bool = True
    extra: dict[str, tuple[tuple[int | str, ...], DType]] = field(default_factory=dict)

    def inputs(self) -> dict[str, tuple[tuple[int | str, ...], DType]]:
        """Name → shape and dtype of what the row reads."""
        xs: dict[str, tuple[tuple[int | str, ...], DType]] = {
            f"x{w}": (("B", "S", w), f32) for w in self.widths
        }
        ys = {f"y{w}": t for w, t in zip(self.widths, xs.values(), strict=True)}
        return {**xs, **ys, **self.extra}


def _vector(*names: str) -> Callable[[np.random.Generator, int], dict[str, Array]]:
    return lambda rng, w: {n: rng.standard_normal(w).astype(np.float32) for n in names}


def _weights(*shapes: tuple[str, Callable[[int], tuple[int, ...]]]) -> Any:
    return lambda rng, w: {n: (rng.standard_normal(s(w)) / np.sqrt(w)).astype(np.float32) for n, s in shapes}


def rows() -> list[Row]:
    """Every op that the backend runs for encoders."""
    found = [Row(n, lambda v, p, w, n=n: OPS[n](v[f"x{w}"])) for n in UNARY]  # type: ignore[misc]
    found += [Row(n, lambda v, p, w, n=n: OPS[n](v[f"x{w}"], v[f"y{w}"])) for n in BINARY]  # type: ignore[misc]
    found += _moves() + _reductions() + _gathers()
    found += [
        Row(f"linear to {n}", lambda v, p, w: linear(v[f"x{w}"], p["w"]), 5e-6,
            _weights(("w", lambda w, n=n: (n, w))), special=False)
        for n in (1, 7, 33, 64, 100)
    ]  # fmt: skip
    found += [
        Row(f"linear, bias, {a}", lambda v, p, w, a=a: OPS[a](OPS["add"](linear(v[f"x{w}"], p["w"]), p["b"])),
            5e-6, _weights(("w", lambda w: (33, w)), ("b", lambda w: (33,))), special=False)
        for a in ("gelu", "gelu_tanh", "silu", "relu", "relu2")
    ]  # type: ignore[misc]  # fmt: skip
    for masked in (False, True):
        for heads, kv_heads in HEADS:
            found.append(_attention(heads, kv_heads, masked))
    found.append(_attention(4, 2, True, sinks=True))
    return found


def _moves() -> list[Row]:
    def first(v: Values, w: int, axis: int) -> Value:
        return slice_(v[f"y{w}"], axis=axis, start=0, stop=1)

    return [
        Row("where", lambda v, p, w: where(less(v[f"x{w}"], v[f"y{w}"]), v[f"y{w}"], _number(0.5))),
        Row("row broadcast", lambda v, p, w: OPS["mul"](v[f"x{w}"], p["g"]), params=_vector("g")),
        Row("token broadcast", lambda v, p, w: OPS["sub"](v[f"x{w}"], first(v, w, 2))),
        Row("sequence broadcast", lambda v, p, w: OPS["add"](v[f"x{w}"], first(v, w, 1))),
        Row("slice", lambda v, p, w: slice_(v[f"x{w}"], axis=2, start=w // 3, stop=w)),
        Row("concat", lambda v, p, w: concat(v[f"x{w}"], v[f"y{w}"], axis=-1)),
        Row("reshape", lambda v, p, w: _heads(v[f"x{w}"], w, 1)),
        Row("broadcast_to", lambda v, p, w: broadcast_to(first(v, w, 2), shape=(B, S, w))),
    ]


def _reductions() -> list[Row]:
    def halves(v: Values, w: int) -> Value:
        return _heads(v[f"x{w}"], 2, w // 2)

    gain, both, half = _vector("g"), _vector("g", "b"), lambda rng, w: _vector("h")(rng, w // 2)
    mask = {"mask": (("B", "S"), i64)}
    even = (16, 66)
    return [
        Row("layer_norm", lambda v, p, w: layer_norm(v[f"x{w}"], p["g"], p["b"], eps=1e-3), 1e-5, both),
        Row("layer_norm, no shift", lambda v, p, w: layer_norm(v[f"x{w}"], p["g"], eps=1e-2), 1e-5, gain),
        Row("rms_norm", lambda v, p, w: rms_norm(v[f"x{w}"], p["g"], eps=1e-6), 1e-5, gain),
        Row("rms_norm, 1 + g", lambda v, p, w: rms_norm(v[f"x{w}"], p["g"], eps=1e-2, unit_offset=True), 1e-5,
            gain),
        Row("rms_norm per head", lambda v, p, w: rms_norm(halves(v, w), p["h"], eps=1e-3), 1e-5, half, even),
        Row("softmax", lambda v, p, w: softmax(v[f"x{w}"]), 5e-6),
        Row("softmax per head", lambda v, p, w: softmax(halves(v, w)), 5e-6, widths=even),
        Row("l2_normalize", lambda v, p, w: l2_normalize(v[f"x{w}"], eps=0.1), 5e-6),
        Row("mean_pool", lambda v, p, w: mean_pool(v[f"x{w}"], v["mask"]), 5e-6, extra=mask),
    ]  # type: ignore[arg-type]  # fmt: skip


def _gathers() -> list[Row]:
    def table(rows: int) -> Callable[[np.random.Generator, int], dict[str, Array]]:
        return lambda rng, w: {"t": rng.standard_normal((rows, w)).astype(np.float32)}

    found = [
        Row(f"gather by {t}", lambda v, p, w: gather(p["t"], v["ids"]), 0.0, table(11),
            extra={"ids": (("B", "S"), t)})
        for t in (i64, i32)
    ]  # fmt: skip

    def placed(v: Values, p: Values, w: int) -> Value:
        return OPS["add"](gather(p["t"], iota(size=S, dtype=i64)), v[f"x{w}"])

    return [*found, Row("gather by position", placed, 1e-6, table(16))]


def _attention(heads: int, kv_heads: int, masked: bool, sinks: bool = False) -> Row:
    """Queries are x tiled over the heads, keys and values y tiled over theirs; widths are head sizes."""

    def build(v: Values, p: Values, w: int) -> Value:
        q, k = (_tiled(v[f"{n}{w}"], count, w) for n, count in (("x", heads), ("y", kv_heads)))
        return attention(q, k, OPS["tanh"](k), v["mask"] if masked else None, None, p.get("s"), scale=0.3)

    name = f"attention {heads}/{kv_heads}{', masked' if masked else ''}{', sinks' if sinks else ''}"
    extra = {"mask": (("B", "S"), i32)} if masked else {}
    params = _weights(("s", lambda w: (heads,))) if sinks else _weights()
    return Row(name, build, 1e-5, params, special=False, extra=extra)  # type: ignore[arg-type]


def _tiled(x: Value, heads: int, width: int) -> Value:
    return reshape(concat(*[x] * heads, axis=-1) if heads > 1 else x, shape=(B, S, heads, width))


def _heads(x: Value, heads: int, width: int) -> Value:
    return reshape(x, shape=(B, S, heads, width))


def _number(value: float) -> Value:
    return full(value=value, dtype=f32, shape=())


def arrays(row: Row, batch: int, tokens: int, kind: str, seed: int) -> dict[str, Array]:
    """Inputs of one kind, for every width at once."""
    rng = np.random.default_rng(seed)
    found: dict[str, Array] = {}
    for name, (shape, dtype) in row.inputs().items():
        sizes = [{"B": batch, "S": tokens}.get(d, d) for d in shape]  # type: ignore[arg-type]
        if name == "ids":
            array = rng.integers(0, 11, sizes)
        elif name == "mask":
            array = _mask(rng, batch, tokens, kind)
        else:
            array = rng.standard_normal(sizes).astype(np.float32)
            if kind == "special":
                places = slice(None, None, max(2, array.size // 5))
                array.flat[places] = np.resize(SPECIAL, array.flat[places].size)
        array = array.astype(np.int32) if dtype is i32 else array
        found[name] = _as(array, kind)
    return found


def _mask(rng: np.random.Generator, batch: int, tokens: int, kind: str) -> Array:
    mask = np.ones((batch, tokens), np.int64)
    if kind == "ragged":
        mask = (np.arange(tokens) < rng.integers(0, tokens + 1, (batch, 1))).astype(np.int64)
    elif kind == "holes":
        mask = rng.integers(0, 2, (batch, tokens))
    return mask


def _as(array: Array, kind: str) -> Array:
    if kind == "strided":
        wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
        wide[..., ::2] = array
        return wide[..., ::2]
    if kind == "read-only":
        array.setflags(write=False)
    return array


def cases(row: Row) -> Iterator[tuple[int, int, str]]:
    """Batch, tokens and kind of input of every run; each compares all widths of the row."""
    for batch, tokens in SHAPES:
        for kind in KINDS:
            if kind in ("ragged", "holes") and "mask" not in row.extra:
                continue
            if kind == "special" and not row.special:
                continue
            yield batch, tokens, kind


def count() -> int:
    """Results that are compared, on one target."""
    return sum(len(row.widths) for row in rows() for _ in cases(row))


if __name__ == "__main__":
    print(f"{len(rows())} rows, {count()} cases on each of the targets")
