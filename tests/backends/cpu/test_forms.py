"""Every form of weights at sizes with tails on every axis, against NumPy."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from compare import TARGETS, Array, Program, rand
from test_quantise import hadamard, in_blocks_of_64

from rlxflow.backends.cpu.code import PTR, Code, Module
from rlxflow.backends.cpu.form import find_form, form_for
from rlxflow.backends.cpu.forms import f16 as f16_form
from rlxflow.backends.cpu.kernels.bfloat import has_bfloat_products
from rlxflow.backends.cpu.kernels.gemm import Gemm
from rlxflow.backends.cpu.llvm import LoadedCode, compile_text, host_target
from rlxflow.backends.cpu.memory import address
from rlxflow.backends.cpu.target import Target, choose
from rlxflow.dtypes import DTYPES, bf16, f16, f32, q4_k, to_numpy
from rlxflow.ir.values import Value
from rlxflow.ops.activation import gelu
from rlxflow.ops.elementwise import add
from rlxflow.ops.linear import linear
from rlxflow.ops.shape import slice_
from rlxflow.profile.load import load_profile
from rlxflow.profile.sections import PrecisionProfile

targets = pytest.mark.parametrize("target", TARGETS)
sizes = pytest.mark.parametrize(
    ("depth", "columns"), [(1, 1), (5, 33), (70, 16), (33, 100), (128, 5), (301, 33)]
)
INT8 = load_profile("exact", ["precision.mixed=int8", "backend.cpu.threads=1"])
WITH_BFLOAT = choose("x86_64-linux", "", {"avx512bf16": True}, "avx512")
HEIGHTS = (1, 2, 3, 5, 7, 13, 14, 80)  # rows of x; tiles of every height


def int8_product(x: Array, w: Array) -> Array:
    """The formula of the form in f64, with the integers of f32 rounding: Σ of blocks."""
    total = np.zeros((len(x), len(w)))
    for number, (scale, _, q) in enumerate(in_blocks_of_64(x)):
        b = w[:, 64 * number : 64 * number + 64]
        if b.shape[1] == 64:
            b = hadamard(b) / 64
        top = np.abs(b).max(1, keepdims=True)
        p = np.rint(b * (np.float32(127) / top)).astype(np.int64)
        total += (q.astype(np.int64) @ p.T) * (scale.astype(np.float64) * (top.T.astype(np.float64) / 127))
    return total


def near(got: Array, want: Array, tolerance: float = 1e-6) -> None:
    """Within the rounding of f32 sums, over some blocks or many elements."""
    assert np.abs(got - want).max() <= tolerance * max(1, np.abs(want).max())


@targets
@sizes
def test_int8_products(depth: int, columns: int, target: str) -> None:
    """Two products of one x, joined where their tails agree, and a third with another tail.

    An integer that is off by one shows: it moves a sum by 1 / 127 of a weight's product.
    """
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
            near(got[name], int8_product(x, params[name]))
        near(got["c"], int8_product(x, params["c"]) + params["bias"])


@targets
@sizes
@pytest.mark.parametrize("name", ["bf16", "f16"])
def test_half_products(name: str, depth: int, columns: int, target: str) -> None:
    """Stored weights as they are, and f32 weights rounded: one product of each, in exact arithmetic of the
    same halves; x has rows that end where NaN begins."""
    rng = np.random.default_rng(depth)
    kind = to_numpy(DTYPES[name])
    given, rounded = rand(rng, columns, depth).astype(kind), rand(rng, columns, depth)
    given.flat[:3] = [6.1e-5, -5.96e-8, 0.0][: given.size]  # the smallest normal and subnormal of f16

    def build(v: Mapping[str, Value], p: Mapping[str, Value]) -> Mapping[str, Value]:
        return {n: linear(slice_(v["x"], axis=1, start=0, stop=depth), p[n]) for n in p}

    spec = {"x": (("B", depth + 1), f32)}
    program = Program(build, spec, {"given": given, "rounded": rounded})
    run = program.compile(target, profile=load_profile("exact", [f"precision.compute={name}"]))
    for rows in HEIGHTS:
        x = rand(rng, rows, depth + 1)
        x[:, depth] = np.nan
        got = run({"x": x})
        for key, w in (("given", given), ("rounded", rounded.astype(kind))):
            near(got[key], x[:, :depth].astype(np.float64) @ w.astype(np.float64).T, 1e-5)
            assert np.array_equal(run({"x": x[:1]})[key], got[key][:1])  # however many rows there are


@targets
@sizes
def test_paired_products(depth: int, columns: int, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights of all magnitudes, each row as accurate as the others; x has rows that end where NaN begins."""
    monkeypatch.setattr(Target, "sums_beside_products", True)
    rng = np.random.default_rng(depth)
    w = rand(rng, columns, depth) * np.logspace(-30, 30, columns, dtype=np.float32)[:, None]
    w[columns // 2] = 0

    def build(v: Mapping[str, Value], p: Mapping[str, Value]) -> Mapping[str, Value]:
        return {"y": linear(slice_(v["x"], axis=1, start=0, stop=depth), p["w"])}

    program = Program(build, {"x": (("B", depth + 1), f32)}, {"w": w})
    run = program.compile(target, profile=load_profile("exact", ["precision.paired_products=true"]))
    assert [s.kernel.form for s in run.plan.steps if isinstance(s.kernel, Gemm)] == ["f32.paired"]
    for rows in HEIGHTS:
        x = rand(rng, rows, depth + 1)
        x[:, depth] = np.nan
        got, want = run({"x": x})["y"], x[:, :depth].astype(np.float64) @ w.astype(np.float64).T
        error = np.abs(got - want) / np.where(w.any(1), np.abs(w).max(1), 1e-30)
        assert error.max() <= 2e-6 * max(1, np.abs(x[:, :depth]).max() * depth**0.5)
        assert np.array_equal(run({"x": x[:1]})["y"], got[:1])  # however many rows there are


@targets
def test_pairs_keep_what_is_not_finite_to_its_row(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Target, "sums_beside_products", True)
    rng = np.random.default_rng(0)
    w, x = rand(rng, 9, 100), rand(rng, 4, 100)
    w[3, 20], w[5] = np.nan, 0
    x[1, 17], x[2, 40] = np.nan, np.inf
    program = Program(lambda v, p: {"y": linear(v["x"], p["w"])}, {"x": (("B", 100), f32)}, {"w": w})
    y = program.compile(target, profile=load_profile("exact", ["precision.paired_products=true"]))({"x": x})[
        "y"
    ]
    assert np.isnan(y[:, 3]).all() and np.isnan(y[1]).all() and not np.isfinite(y[2]).any()
    assert np.isfinite(np.delete(y, 3, axis=1)[[0, 3]]).all()


@pytest.mark.parametrize("target", ["host", "no f16c"])
def test_every_f16_is_widened_exactly(target: str) -> None:
    """All 65536 of them, by the processor's instruction and by arithmetic."""
    host = host_target()
    module = Module(
        host if target == "host" else replace(host, features=host.features.replace("+f16c", "-f16c"))
    )
    lanes = module.target.lanes

    def body(code: Code, words: Any, low: Any, high: Any) -> None:
        loaded = code.get_as(words, code.ints)
        code.put_vector(f16_form.low(code, loaded), low)
        code.put_vector(f16_form.high(code, loaded), high)

    module.function("test", [PTR] * 3, body, export="test")
    code = LoadedCode(compile_text(str(module.ir), host), host)
    run = code.function("test", *[ctypes.c_void_p] * 3)
    halves = np.arange(1 << 16, dtype=np.uint16)
    found = np.zeros((2, len(halves) // 2), np.float32)
    for i in range(0, len(halves) // 2, lanes):
        run(address(halves) + 4 * i, address(found) + 4 * i, address(found[1]) + 4 * i)
    want = halves.view(np.float16).astype(np.float32)
    assert np.array_equal(found.T.ravel(), want, equal_nan=True)
    assert np.array_equal(np.signbit(found.T.ravel()), np.signbit(want))


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


@pytest.mark.skipif(not has_bfloat_products(host_target()), reason="the processor multiplies no bf16")
@sizes
def test_products_of_bf16(depth: int, columns: int) -> None:
    """Weights and x rounded to bf16, multiplied exactly; x has rows that end where NaN begins."""
    rng = np.random.default_rng(depth)
    kind = to_numpy(bf16)
    params = {"given": rand(rng, columns, depth).astype(kind), "rounded": rand(rng, columns, depth)}

    def build(v: Mapping[str, Value], p: Mapping[str, Value]) -> Mapping[str, Value]:
        return {n: linear(slice_(v["x"], axis=1, start=0, stop=depth), p[n]) for n in p}

    program = Program(build, {"x": (("B", depth + 1), f32)}, params)
    run = program.compile(profile=load_profile("exact", ["precision.mixed=auto"]))
    for rows in HEIGHTS:
        x = rand(rng, rows, depth + 1)
        x[:, depth] = np.nan
        got, near_x = run({"x": x}), x[:, :depth].astype(kind).astype(np.float64)
        for key, w in params.items():
            near(got[key], near_x @ w.astype(kind).astype(np.float64).T, 1e-6)


def test_which_form_is_taken() -> None:
    exact, auto = (load_profile("exact", [f"precision.mixed={m}"]).precision for m in ("none", "auto"))
    half = load_profile("exact", ["precision.compute=f16"]).precision
    paired = load_profile("exact", ["precision.paired_products=true"]).precision
    plain, zen = host_target("avx2"), replace(WITH_BFLOAT, cpu="znver4")

    def forms(precision: PrecisionProfile, target: Target = plain) -> list[str]:
        return [form_for(t, precision, target) for t in (f32, bf16, f16)]

    assert forms(exact) == ["f32", "bf16", "f16"]
    assert forms(auto) == ["bf16", "bf16", "f16"]
    assert forms(auto, WITH_BFLOAT) == ["bf16.pairs", "bf16.pairs", "f16"]
    assert forms(half) == forms(half, WITH_BFLOAT) == ["f16", "bf16", "f16"]
    assert set(forms(INT8.precision)) == {"int8"}
    assert forms(paired) == ["f32", "bf16", "f16"] and forms(paired, zen) == ["f32.paired", "bf16", "f16"]
    assert find_form(form_for(q4_k, exact, plain)).x is None


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
