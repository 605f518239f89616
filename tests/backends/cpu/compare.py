"""Small graphs run by the CPU backend in checked mode and by the reference backend, and compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from reference_models import Drawn, graph_of

import rlxflow.ops  # noqa: F401  (fills the op table)
from rlxflow.backends.cpu.backend import CpuBackend
from rlxflow.backends.cpu.executable import CpuExecutable
from rlxflow.backends.reference.backend import ReferenceBackend
from rlxflow.dtypes import DType, f32, from_numpy
from rlxflow.flow.flow import ModelFlow
from rlxflow.fusion.legalize import legalize
from rlxflow.fusion.sink import sink_last_token
from rlxflow.ir.builder import GraphBuilder
from rlxflow.ir.graph import Graph
from rlxflow.ir.op import emitting
from rlxflow.ir.values import Value
from rlxflow.ops.leaves import input_, param
from rlxflow.profile.load import load_profile
from rlxflow.weights.source import MapWeights

Array = np.ndarray[Any, np.dtype[Any]]
PROFILE = load_profile("exact", ["backend.cpu.threads=1"])
TARGETS = ("avx512", "avx2", "vector128")


def in_k_blocks(x: Array) -> tuple[Array, Array, Array]:
    """One block of 256 of every row, x ≈ s·2ᵉ·q: s [rows], e [rows, 8], q [rows, 256]; see `QuantisedK`."""
    runs = np.abs(x).reshape(len(x), 8, 32).max(2)
    top = runs.max(1, keepdims=True)
    powers = sum((runs > top * np.float32(share)).astype(np.int32) for share in (0.5, 0.25, 0.125))
    with np.errstate(all="ignore"):
        factor = np.where(top < 1e-30, np.float32(0), np.float32(960) / top).astype(np.float32)
    q = np.rint(x * np.repeat(factor * np.float32(0.5) ** powers, 32, axis=1)).astype(np.int32)
    scale = np.where(top < 1e-30, 0, top / np.float32(960)).astype(np.float32)
    return scale[:, 0], powers, q


class Program:
    """A graph built by `build(inputs, params)`, which returns named outputs.

    `inputs` maps names to (shape, dtype); `params` to arrays.
    """

    def __init__(
        self,
        build: Callable[[Mapping[str, Value], Mapping[str, Value]], Mapping[str, Value]],
        inputs: Mapping[str, tuple[tuple[int | str, ...], Any]],
        params: Mapping[str, Array] | None = None,
    ) -> None:
        self.weights = MapWeights(params or {})
        builder = GraphBuilder()
        with emitting(builder):
            given = {n: input_(key=n, dtype=t, shape=s) for n, (s, t) in inputs.items()}
            held = {
                n: param(key=n, dtype=from_numpy(a.dtype) or f32, shape=a.shape)
                for n, a in (params or {}).items()
            }
            outputs = dict(build(given, held))
        self.graph: Graph = builder.finish("test", given, outputs)
        self.reference = ReferenceBackend().compile(self.graph, self.weights, PROFILE)

    def compile(
        self, target: str | None = None, checked: bool = True, profile: Any = PROFILE
    ) -> CpuExecutable:
        return CpuBackend(target, checked).compile(self.graph, self.weights, profile)


def close(got: Mapping[str, Array], want: Mapping[str, Array], tolerance: float) -> None:
    """max|got − want| ≤ tolerance · max(1, max|want|), with NaN and infinities in the same places."""
    assert list(got) == list(want)
    for name in want:
        a, b = got[name], want[name]
        assert a.shape == b.shape and a.dtype == b.dtype, name
        finite = np.isfinite(b)
        assert np.array_equal(np.isfinite(a), finite), (
            name,
            a[np.isfinite(a) != finite],
            b[np.isfinite(a) != finite],
        )
        assert np.array_equal(a[~finite], b[~finite], equal_nan=True), name
        if finite.any():
            worst = np.abs(a[finite] - b[finite]).max() / max(1.0, np.abs(b[finite]).max())
            assert worst <= tolerance, (name, worst)


def lengths_mask(lengths: tuple[int, ...], size: int, left: bool = False) -> Array:
    """A mask [B, size] with so many valid tokens per row."""
    columns = np.arange(size)[::-1] if left else np.arange(size)
    return (columns < np.array(lengths)[:, None]).astype(np.int64)


def rand(rng: np.random.Generator, *shape: int, scale: float = 1.0) -> Array:
    return (rng.standard_normal(shape) * scale).astype(np.float32)


def compile_decoder(
    flow: ModelFlow,
    *,
    threads: int = 1,
    checked: bool = False,
    target: str | None = None,
    kv_dtype: DType = f32,
    preset: str = "exact",
    apart: tuple[str, ...] = (),
) -> CpuExecutable:
    """A decoder of `reference_models`, with the weights drawn there; what its last token alone needs is run
    for that alone."""
    graph, backend = graph_of(flow, kv_dtype=kv_dtype), CpuBackend(target, checked, apart=apart)
    profile = load_profile(preset, [f"backend.cpu.threads={threads}"])
    sunk = sink_last_token(legalize(graph, backend.claims), [])
    return backend.compile(sunk, Drawn(graph), profile)  # type: ignore[arg-type]


def blocks_of_32(x: Array) -> tuple[Array, ...]:
    """M, p, z, Σ (q - z) and q of every block: [rows, blocks], q [rows, blocks, 32]. See `Quantised32`."""
    parts = x.reshape(len(x), -1, 32)
    up, down = np.maximum(parts.max(2), 0), np.maximum(-parts.min(2), 0)
    sign = np.where(down > up, np.float32(-1), np.float32(1))
    near, far = np.minimum(up, down), np.maximum(up, down)
    zeros = 2 ** np.arange(8)
    needed = [
        np.maximum(near * np.float32(1 / z), far * np.float32(1 / (255 - z))).astype(np.float32)
        for z in zeros.tolist()
    ]
    z, scale = zeros[np.argmin(needed, 0)], np.min(needed, 0)
    unit, p = np.ones_like(scale), np.ones_like(scale)
    for first in range(0, scale.shape[1], 8):
        own = slice(first, first + 8)
        top = scale[:, own].max(1, keepdims=True)
        mantissa = (top.view(np.int32) & 0x7FFFFF | 127 << 23).view(np.float32)
        unit[:, own] = np.maximum(mantissa, top * np.float32(2.0**-100))
        with np.errstate(all="ignore"):
            up_to = np.ceil(np.log2((scale[:, own] / unit[:, own]).astype(np.float64)))
        p[:, own] = sign[:, own] * 2.0 ** np.maximum(up_to, -120)
    factor = np.float32(1) / unit / p
    q = np.rint((parts * factor[..., None]).astype(np.float64) + z[..., None])
    return unit, p, z, (q - z[..., None]).sum(2), q
