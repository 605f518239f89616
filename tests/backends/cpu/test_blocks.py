"""Products with packed GGUF weights, kept packed, against float64 products of what gguf-py makes of them."""

from __future__ import annotations

from collections.abc import Mapping

import gguf
import numpy as np
import pytest
from compare import TARGETS, Array, rand

import rlxflow.ops  # noqa: F401  (fills the op table)
from rlxflow.backends.cpu.backend import CpuBackend
from rlxflow.backends.cpu.executable import CpuExecutable
from rlxflow.backends.cpu.form import find_form, form_for
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


def rounded(x: Array) -> Array:
    """x as int8 with a scale per 32 elements, and back, in float64."""
    blocks = x.reshape(len(x), -1, 32)
    top = np.abs(blocks).max(2, keepdims=True)
    q = np.rint(blocks * (np.float32(127) / top))
    back: Array = q.astype(np.float64) * (top / np.float32(127)).astype(np.float64)
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
@pytest.mark.parametrize(("rows", "blocks"), [(1, 1), (37, 3), (64, 2)])
def test_products(name: str, target: str, rows: int, blocks: int) -> None:
    """Odd numbers of rows and of blocks, every height of tile, checked; x as int8 and as f32."""
    packed = random_rows(name, rows, blocks)
    program, w = Packed({"y": (name, packed)}), values(name, packed)
    for profile, seen in ((INT8, rounded), (EXACT, lambda x: x.astype(np.float64))):
        run = program.compile(target, profile)
        rng = np.random.default_rng(rows)
        for count in HEIGHTS:
            x = rand(rng, count, program.depth)
            assert error(run({"x": x})["y"], seen(x), w) < 3e-7, (profile, count)
