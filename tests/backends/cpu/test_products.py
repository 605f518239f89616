"""Products with their tails, and attention, at sizes with tails on every axis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from compare import TARGETS, Program, close, lengths_mask, rand

from rlxflow.dtypes import f32, i64
from rlxflow.ir.dims import dim
from rlxflow.ir.values import Value
from rlxflow.ops.activation import gelu, silu
from rlxflow.ops.attention import attention
from rlxflow.ops.elementwise import add, mul
from rlxflow.ops.linear import linear
from rlxflow.ops.norm import layer_norm
from rlxflow.ops.shape import reshape, slice_

B, S = dim("B"), dim("S")
targets = pytest.mark.parametrize("target", TARGETS)


@targets
@pytest.mark.parametrize(("depth", "columns"), [(1, 1), (5, 33), (70, 16), (33, 100)])
def test_products(depth: int, columns: int, target: str) -> None:
    """Every height of tile, tails that read buffers and constants, joined products, one row per sequence."""
    rng = np.random.default_rng(depth)
    names = {"w": (columns, depth), "w2": (columns, depth), "w3": (2 * columns + 1, depth),
             "b": (columns,), "b2": (columns,), "b3": (2 * columns + 1,), "g": (columns,),
             "back": (depth, columns)}  # fmt: skip
    params = {n: rand(rng, *s) for n, s in names.items()}

    def build(v: Mapping[str, Value], p: Mapping[str, Value]) -> Mapping[str, Value]:
        x = v["x"]
        y = gelu(add(linear(x, p["w"]), p["b"]))
        gate = mul(silu(linear(y, p["back"])), x)
        other = add(linear(x, p["w2"]), p["b2"])
        wide = add(linear(x, p["w3"]), p["b3"])
        first = reshape(slice_(y, axis=1, start=0, stop=1), shape=(B, columns))
        return {
            "y": layer_norm(add(y, other), p["g"], eps=1e-5),
            "gate": gate,
            "plain": linear(gate, p["w"]),
            "wide": slice_(wide, axis=2, start=columns, stop=2 * columns + 1),
            "first": add(linear(first, p["back"]), reshape(v["s"], shape=(B, depth))),
        }

    program = Program(build, {"x": (("B", "S", depth), f32), "s": (("B", 1, depth), f32)}, params)
    run = program.compile(target)
    for batch, tokens in ((1, 1), (2, 3), (1, 5), (3, 7), (1, 13), (1, 14), (2, 80)):
        inputs = {"x": rand(rng, batch, tokens, depth), "s": rand(rng, batch, 1, depth)}
        close(run(inputs), program.reference(inputs), 1e-5)
    inputs["x"][0, 3, 0], inputs["x"][1, 79, 0] = np.nan, np.inf
    close(run(inputs), program.reference(inputs), 1e-5)


ATTENTIONS: dict[str, tuple[int, int, int, dict[str, Any]]] = {  # heads, key heads, head_dim, attributes
    "plain": (2, 2, 32, {}),
    "one-wide": (3, 3, 1, {}),
    "odd": (5, 5, 7, {}),
    "gqa": (6, 2, 20, {}),
    "mqa": (3, 1, 16, {"softcap": 2.0}),
    "long-head": (1, 1, 130, {}),
    "causal": (2, 1, 12, {"causal": True}),
    "causal-window": (2, 2, 8, {"causal": True, "window": 5}),
    "window": (2, 1, 17, {"window": 3}),
    "steep": (2, 2, 16, {"scale": 200.0}),
}


@pytest.mark.parametrize(("masked", "target"), [(False, "avx2"), *((True, t) for t in TARGETS)])
def test_attention(masked: bool, target: str) -> None:
    """All variants in one program; lengths below, at and above the vector width; holes in the mask."""
    rng = np.random.default_rng(3)

    def build(v: Mapping[str, Value], _: Mapping[str, Value]) -> Mapping[str, Value]:
        out = {}
        for name, (heads, kv_heads, head_dim, attrs) in ATTENTIONS.items():
            qkv = v[name.replace("-", "_")]
            width = (heads * head_dim, kv_heads * head_dim)
            q = reshape(slice_(qkv, axis=2, start=0, stop=width[0]), shape=(B, S, heads, head_dim))
            k, x = (
                reshape(
                    slice_(qkv, axis=2, start=width[0] + i * width[1], stop=width[0] + (i + 1) * width[1]),
                    shape=(B, S, kv_heads, head_dim),
                )
                for i in (0, 1)
            )
            out[name] = attention(
                q, k, x, v["mask"] if masked else None, **{"scale": head_dim**-0.5, **attrs}
            )
        return out

    widths = {n.replace("-", "_"): (h + 2 * kv) * d for n, (h, kv, d, _) in ATTENTIONS.items()}
    spec: dict[str, Any] = {n: (("B", "S", w), f32) for n, w in widths.items()}
    if masked:
        spec["mask"] = (("B", "S"), i64)
    program = Program(build, spec)
    run = program.compile(target)
    cases = (
        (((1,), 1), ((5, 16, 1), 16), ((40, 3), 40), ((0, 17), 20)) if masked else (((9, 9), 9), ((33,), 33))
    )
    for lengths, size in cases:
        inputs = {n: rand(rng, len(lengths), size, w) for n, w in widths.items()}
        if masked:
            inputs["mask"] = lengths_mask(lengths, size, left=size == 20)
            inputs["mask"][0, 1:-1:2] = 0
        close(run(inputs), program.reference(inputs), 5e-6)
    for name in widths:
        inputs[name][-1, 2, 0], inputs[name][-1, 3, -1] = np.nan, np.inf
    close(run(inputs), program.reference(inputs), 5e-6)
