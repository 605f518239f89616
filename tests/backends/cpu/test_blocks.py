"""Products with packed GGUF weights, kept packed, against float64 products of what gguf-py makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import gguf
import numpy as np
import pytest
from compare import TARGETS, Array, blocks_of_32, in_k_blocks, rand

import rlxflow.ops  # noqa: F401  (fills the op table)
from rlxflow.backends.cpu.backend import CpuBackend
from rlxflow.backends.cpu.executable import CpuExecutable
from rlxflow.backends.cpu.form import find_form, form_for
from rlxflow.backends.cpu.llvm import host_target
from rlxflow.backends.cpu.target import Target
from rlxflow.dtypes import DTYPES, f32
from rlxflow.ir.builder import GraphBuilder
from rlxflow.ir.op import emitting
from rlxflow.ops.leaves import input_, param
from rlxflow.ops.linear import linear
from rlxflow.profile.load import load_profile

FORMATS = ("q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k")
# Byte offsets of the float16 numbers of a block (ggml-common.h)
NUMBERS_AT = {"q4_0": (0,), "q4_1": (0, 2), "q5_0": (0,), "q5_1": (0, 2), "q8_0": (0,), "q2_k": (80, 82),
              "q3_k": (108,), "q4_k": (0, 2), "q5_k": (0, 2), "q6_k": (208,)}  # fmt: skip
EXACT = load_profile("exact", ["backend.cpu.threads=1"])
INT8 = load_profile("exact", ["precision.mixed=int8", "backend.cpu.threads=1"])
HEIGHTS = (1, 2, 3, 5, 6, 7, 8, 9, 50)
formats = pytest.mark.parametrize("name", FORMATS)
targets = pytest.mark.parametrize("target", TARGETS)


def random_rows(name: str, rows: int, blocks: int, seed: int = 0) -> Array:
    """Packed rows of random codes; the float16 numbers are of both signs and several sizes."""
    dtype = DTYPES[name]
    rng = np.random.default_rng([seed, *name.encode()])
    data = rng.integers(0, 256, (rows * blocks, dtype.block_bytes), np.uint8)
    for at in NUMBERS_AT[name]:
        numbers = (rng.normal(0, 0.05, len(data)) * rng.choice([1e-3, 0.1, 1], len(data))).astype(np.float16)
        data[:, at : at + 2] = numbers.view(np.uint8).reshape(-1, 2)
    return data.reshape(rows, -1)


def values(name: str, rows: Array) -> Array:
    """What the rows mean, by gguf-py, in float64."""
    found = gguf.quants.dequantize(rows, gguf.GGMLQuantizationType[name.upper()])
    return found.astype(np.float64)


def rounded(name: str, x: Array) -> Array:
    """x as products with a format read it, in float64."""
    if DTYPES[name].block_size == 32:
        unit, p, z, _, q = blocks_of_32(x)
        return ((unit * p)[..., None].astype(np.float64) * (q - z[..., None])).reshape(x.shape)
    scale, powers, q = in_k_blocks(x.reshape(-1, 256))
    back: Array = q * np.repeat(scale[:, None] * 2.0**powers, 32, axis=1)
    return back.reshape(x.shape)


class Packed:
    """Products of one x with some packed weights: name → (format, rows)."""

    def __init__(self, weights: Mapping[str, tuple[str, Array]]) -> None:
        self._rows = {k: rows for k, (_, rows) in weights.items()}
        builder = GraphBuilder()
        with emitting(builder):
            made = {}
            for key, (name, rows) in weights.items():
                dtype = DTYPES[name]
                depth = rows.shape[1] // dtype.block_bytes * dtype.block_size
                made[key] = param(key=key, dtype=dtype, shape=(len(rows), depth))
            x = input_(key="x", dtype=f32, shape=("B", depth))
            outputs = {key: linear(x, w) for key, w in made.items()}
        self.depth = depth
        self.graph = builder.finish("test", {"x": x}, outputs)

    def read(self, key: str) -> Array:
        return self._rows[key]

    def compile(self, target: str, profile: object, checked: bool = True) -> CpuExecutable:
        return CpuBackend(target, checked).compile(self.graph, self, profile)  # type: ignore[arg-type]


def error(got: Array, x: Array, w: Array) -> float:
    """The largest error, as a share of the largest Σ |x·w| of a result."""
    size = (np.abs(x) @ np.abs(w.T)).max()
    return float(np.abs(got - x @ w.T).max() / size)


@formats
@targets
@pytest.mark.parametrize(("rows", "blocks"), [(1, 1), (37, 3)])
def test_products(name: str, target: str, rows: int, blocks: int) -> None:
    """Odd numbers of rows and of blocks, every height of tile, checked; x as int8 and as f32."""
    packed = random_rows(name, rows, blocks)
    program, w = Packed({"y": (name, packed)}), values(name, packed)
    assert program.compile(target, INT8).kept == {(name, name): 1}  # as packed as it was
    for profile, seen in ((INT8, partial(rounded, name)), (EXACT, lambda x: x.astype(np.float64))):
        run = program.compile(target, profile)
        rng = np.random.default_rng(rows)
        for count in HEIGHTS:
            x = rand(rng, count, program.depth)
            assert error(run({"x": x})["y"], seen(x), w) < 3e-7, (profile, count)


@formats
def test_f32_reads_the_values_of_gguf(name: str) -> None:
    """Rows of the identity pick single weights: every bit is that of gguf-py's float32."""
    packed = random_rows(name, 35, 2, seed=1)
    program = Packed({"y": (name, packed)})
    got = program.compile("avx512", EXACT, checked=False)({"x": np.eye(program.depth, dtype=np.float32)})
    assert np.array_equal(got["y"].T, values(name, packed).astype(np.float32))


@formats
def test_a_row_has_the_same_bits_in_any_company(name: str) -> None:
    packed = random_rows(name, 40, 3)
    program = Packed({"y": (name, packed)})
    x = rand(np.random.default_rng(0), 29, program.depth)
    for profile in (INT8, EXACT):
        run = program.compile("avx512", profile, checked=False)
        together = run({"x": x})["y"]
        alone = np.concatenate([run({"x": row[None]})["y"] for row in x])
        assert np.array_equal(together, alone)


@targets
@pytest.mark.parametrize("name", ["q8_0", "q5_1"])
def test_rows_of_any_size_in_blocks_of_32(name: str, target: str) -> None:
    """Up to what float32 holds; groups, one of them of one block, that differ by as much."""
    packed = random_rows(name, 37, 17)
    w = values(name, packed)
    program = Packed({"y": (name, packed)})
    run = program.compile(target, INT8)
    x = rand(np.random.default_rng(0), 14, program.depth)
    for row, size in enumerate((1e-40, 1e-34, 1e-30, 1e-20, 1e20, 1e30, 3e33, 1e36)):
        x[row] *= np.float32(size)
    for row, sizes in enumerate(((1e33, 1e-33, 1), (1e-33, 1e33, 1), (1e-30, 0, 1e36), (0, -0.0, 1e30)), 8):
        x[row] *= np.repeat(np.array(sizes, np.float32), 256)[: program.depth]
    x[12, 3], x[13, 300] = np.inf, np.nan
    got = run({"x": x})["y"]
    assert not np.isfinite(got[12]).any() and np.isnan(got[13]).all()
    for row, y in zip(x[:12], got, strict=False):
        bound = 1e-6 * (np.abs(row.astype(np.float64)) @ np.abs(w.T)).max() + 1e-35
        assert np.abs(y - rounded(name, row[None]) @ w.T).max() <= bound
    alone = np.concatenate([run({"x": row[None]})["y"] for row in x])
    assert np.array_equal(got, alone, equal_nan=True)


@targets
@pytest.mark.parametrize("pairs", [True, False])
def test_products_in_pairs_are_exact(target: str, pairs: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether there are units for them or not; x and codes at the ends of their ranges too."""
    monkeypatch.setattr(Target, "sums_beside_products", pairs)
    packed = random_rows("q4_k", 40, 2)
    codes = packed.reshape(40, 2, 144)[:, :, 16:]
    codes[:2], codes[2:4], codes[4:6] = 0, 255, 240
    program = Packed({"y": ("q4_k", packed)})
    x = rand(np.random.default_rng(0), 29, program.depth)
    signs = np.array([[1] * 32, [-1] * 32, [1, -1] * 16, [1] * 16 + [-1] * 16])
    x[:4] = np.tile(signs, program.depth // 32)
    run = program.compile(target, INT8)
    together = run({"x": x})["y"]
    assert error(together, rounded("q4_k", x), values("q4_k", packed)) < 3e-7
    assert np.array_equal(together, np.concatenate([run({"x": row[None]})["y"] for row in x]))


@targets
def test_int8_sums_are_the_same_on_every_processor(target: str) -> None:
    """Scales that are powers of two: all arithmetic is exact."""
    packed = random_rows("q8_0", 33, 2)
    packed.reshape(33, 2, 34)[:, :, :2] = np.array([0.25], np.float16).view(np.uint8)
    x = np.random.default_rng(0).integers(-127, 128, (5, 64)).astype(np.float32)
    x[:, ::32] = 127
    got = Packed({"y": ("q8_0", packed)}).compile(target, INT8)({"x": x})["y"]
    assert np.array_equal(got, x.astype(np.float64) @ values("q8_0", packed).T)


@pytest.mark.parametrize("name", ["q2_k", "q3_k", "q4_k", "q5_k", "q6_k"])
def test_the_largest_sums_of_k_quants_are_exact(name: str) -> None:
    """All bytes of a block alike, also those of its scales; x at the ends of int8."""
    fills = np.array([0x00, 0x7F, 0x80, 0xFF], np.uint8)
    packed = np.repeat(fills[:, None], 2 * DTYPES[name].block_bytes, axis=1)
    for at in NUMBERS_AT[name]:
        packed.reshape(4, 2, -1)[:, :, at : at + 2] = np.array([0.5], np.float16).view(np.uint8)
    program, w = Packed({"y": (name, packed)}), values(name, packed)
    x = np.full((30, 512), 1016, np.float32) * np.where(np.arange(30) % 2, 1, -1)[:, None].astype(np.float32)
    for target in TARGETS:
        run = program.compile(target, INT8)
        for rows in (1, 30):
            assert error(run({"x": x[:rows]})["y"], x[:rows], w) < 1e-7


def test_joined_products_of_several_formats() -> None:
    """Q, K and V as in Q4_K_M files: one x is quantised once for all."""
    rows = {"q": ("q4_k", random_rows("q4_k", 48, 2)), "k": ("q4_k", random_rows("q4_k", 16, 2, seed=1)),
            "v": ("q6_k", random_rows("q6_k", 16, 2))}  # fmt: skip
    program = Packed(rows)
    run = program.compile("avx512", INT8)
    assert [s.startswith("quantise") for s in run.steps].count(True) == 1
    x = rand(np.random.default_rng(0), 7, program.depth)
    got = run({"x": x})
    for key, (name, packed) in rows.items():
        assert error(got[key], rounded(name, x), values(name, packed)) < 3e-7, key


@formats
def test_what_is_not_finite_reaches_its_row_and_column(name: str) -> None:
    packed = random_rows(name, 20, 1)
    at = NUMBERS_AT[name][0]
    packed[3, at : at + 2] = np.array([np.nan], np.float16).view(np.uint8)
    program = Packed({"y": (name, packed)})
    x = rand(np.random.default_rng(0), 4, program.depth)
    x[1, 3], x[2, 0] = np.nan, np.inf
    for profile in (INT8, EXACT):
        y = program.compile("avx512", profile)({"x": x})["y"]
        assert np.isnan(y[:, 3]).all() and np.isnan(y[1]).all() and not np.isfinite(y[2]).any()
        assert np.isfinite(np.delete(y, 3, axis=1)[[0, 3]]).all()


def test_halves_without_the_instruction_that_widens_them() -> None:
    """Every float16 there is."""
    numbers = np.arange(1 << 16, dtype=np.uint16)
    packed = np.zeros((1 << 16, 34), np.uint8)
    packed[:, :2], packed[:, 2:] = numbers.view(np.uint8).reshape(-1, 2), 1
    host = host_target("vector128")
    plain = replace(host, features=host.features.replace("+f16c", "-f16c"))
    assert not plain.has("f16c") and not plain.has("avx512f")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rlxflow.backends.cpu.backend.host_target", lambda name: plain)
        run = Packed({"y": ("q8_0", packed)}).compile("", EXACT, checked=False)
    got = run({"x": np.eye(32, dtype=np.float32)[:1]})["y"][0]
    want = numbers.view(np.float16).astype(np.float32)
    assert np.array_equal(got[np.isfinite(want)], want[np.isfinite(want)])
    assert np.isnan(got[~np.isfinite(want)]).all()  # times the zeros of x


@formats
def test_rows_take_the_memory_that_they_take_in_the_file(name: str) -> None:
    for form in (form_for(DTYPES[name], p.precision, host_target()) for p in (INT8, EXACT)):
        for blocks in (1, 2, 7, 32):
            packed = random_rows(name, 32, blocks)
            before = packed.copy()
            nbytes = 4 * 32 * find_form(form).words(blocks * DTYPES[name].block_size)
            assert 0 <= nbytes - packed.nbytes <= 32 * 2  # a word holds two float16
            assert Packed({"y": (name, packed)}).compile(host_target().name, EXACT).weight_bytes == nbytes
            assert np.array_equal(packed, before)
