"""Every form of weights at sizes with tails on every axis, against NumPy."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from compare import TARGETS, Array, Program, rand

from rlxflow.backends.cpu.form import find_form, form_for
from rlxflow.dtypes import bf16, f16, f32, q4_k
from rlxflow.ir.values import Value
from rlxflow.ops.activation import gelu
from rlxflow.ops.elementwise import add
from rlxflow.ops.linear import linear
from rlxflow.profile.load import load_profile

targets = pytest.mark.parametrize("target", TARGETS)
sizes = pytest.mark.parametrize(("depth", "columns"), [(1, 1), (5, 33), (70, 16), (33, 100)])
INT8 = load_profile("exact", ["precision.mixed=int8", "backend.cpu.threads=1"])
HEIGHTS = (1, 2, 3, 5, 7, 13, 14, 80)  # rows of x; tiles of every height


def quantised(rows: Array) -> tuple[Array, Array]:
    """q and the scale of every row."""
    top = np.abs(rows).max(1, keepdims=True)
    return np.rint(rows * (np.float32(127) / top)).astype(np.int64), top / np.float32(127)


def int8_product(x: Array, w: Array) -> Array:
    (p, s), (q, t) = quantised(x), quantised(w)
    product: Array = (p @ q.T).astype(np.float32) * (s * t.T)
    return product


@targets
@sizes
def test_int8_products(depth: int, columns: int, target: str) -> None:
    """Two products of one x, joined where their tails agree, and a third with another tail: the same bits
    as NumPy."""
    rng = np.random.default_rng(depth)
    params = {n: rand(rng, columns, depth) for n in ("a", "b", "c")} | {"bias": rand(rng, columns)}

    def build(v: Mapping[str, Value], p: Mapping[str, Value]) -> Mapping[str, Value]:
        products = {n: linear(v["x"], p[n]) for n in "abc"}
        return {**products, "c": add(products["c"], p["bias"])}

    program = Program(build, {"x": (("B", depth), f32)}, params)
    run = program.compile(target, profile=INT8)
    assert [s.startswith("quantise") for s in run.steps].count(True) == 1
    for rows in HEIGHTS:
        x = rand(rng, rows, depth)
        got = run({"x": x})
        for name in "ab":
            assert np.array_equal(got[name], int8_product(x, params[name])), (name, rows)
        assert np.array_equal(got["c"], int8_product(x, params["c"]) + params["bias"]), rows


@targets
def test_int8_passes_on_what_is_not_finite(target: str) -> None:
    rng = np.random.default_rng(0)
    w = rand(rng, 9, 20)
    w[3, 4], w[5] = np.nan, 0
    program = Program(lambda v, p: {"y": linear(v["x"], p["w"])}, {"x": (("B", 20), f32)}, {"w": w})
    x = rand(rng, 4, 20)
    x[1, 3], x[2, 0], x[3] = np.nan, np.inf, 0
    y = program.compile(target, profile=INT8)({"x": x})["y"]
    assert np.isnan(y[:, 3]).all() and np.isnan(y[1]).all() and not np.isfinite(y[2]).any()
    rest = np.delete(y, 3, axis=1)
    assert np.isfinite(rest[[0, 3]]).all() and not rest[0, 4] and not rest[3].any()


def test_which_form_is_taken() -> None:
    exact = load_profile("exact").precision
    assert form_for(f32, exact) == "f32"
    assert {form_for(t, INT8.precision) for t in (f32, bf16, f16)} == {"int8"}
    assert find_form(form_for(q4_k, exact)).x is None


def test_a_hidden_layer_is_quantised_too() -> None:
    """x of the second product is what the tail of the first one wrote."""
    rng = np.random.default_rng(1)
    params = {"up": rand(rng, 40, 24), "down": rand(rng, 24, 40)}
    program = Program(
        lambda v, p: {"y": linear(gelu(linear(v["x"], p["up"])), p["down"])},
        {"x": (("B", "S", 24), f32)},
        params,
    )
    x = rand(rng, 2, 9, 24)
    got, want = program.compile(profile=INT8)({"x": x})["y"], program.reference({"x": x})["y"]
    assert np.abs(got - want).max() / np.abs(want).max() < 0.02
    assert (got * want).sum() / np.linalg.norm(got) / np.linalg.norm(want) > 0.9995
