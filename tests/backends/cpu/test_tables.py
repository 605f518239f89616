"""Rows gathered from tables that stay as they are stored; tables that are also the weights of a product."""

from __future__ import annotations

import gguf
import ml_dtypes
import numpy as np
import pytest
from compare import TARGETS, Array, rand
from test_blocks import EXACT, FORMATS, INT8, random_rows

import rlxflow.ops  # noqa: F401  (fills the op table)
from rlxflow.backends.cpu.backend import CpuBackend
from rlxflow.dtypes import DTYPES, f32, i64
from rlxflow.ir.builder import GraphBuilder
from rlxflow.ir.graph import Graph
from rlxflow.ir.op import emitting
from rlxflow.ops.elementwise import add
from rlxflow.ops.leaves import input_, param
from rlxflow.ops.linear import linear
from rlxflow.ops.norm import rms_norm
from rlxflow.ops.shape import gather

ROWS = 70


class OneTable:
    """A table [70, depth] of some dtype: as weights, and what it means in f32."""

    def __init__(self, name: str) -> None:
        rng = np.random.default_rng(0)
        self.dtype = DTYPES[name]
        if self.dtype.packed:
            self.stored = random_rows(name, ROWS, 2)
            self.values = gguf.quants.dequantize(self.stored, gguf.GGMLQuantizationType[name.upper()])
        else:
            kind = {"bf16": ml_dtypes.bfloat16, "f16": np.float16, "f32": np.float32}[name]
            self.stored = rand(rng, ROWS, 37).astype(kind)
            self.values = self.stored.astype(np.float32)

    def read(self, key: str) -> Array:
        return self.stored if key == "table" else np.ones(self.values.shape[1], np.float32)

    def graph(self, tied: bool) -> Graph:
        builder = GraphBuilder()
        with emitting(builder):
            table = param(key="table", dtype=self.dtype, shape=self.values.shape)
            ids = input_(key="ids", dtype=i64, shape=("B", "S"))
            weight = param(key="weight", dtype=f32, shape=self.values.shape[1:])
            rows = gather(table, ids)
            outputs = {"rows": rows, "normed": add(rms_norm(rows, weight, eps=1e-6), rows)}
            if tied:
                x = input_(key="x", dtype=f32, shape=("B", "S", self.values.shape[1]))
                outputs["logits"] = linear(x, table)
        given = {"ids": ids, "x": x} if tied else {"ids": ids}
        return builder.finish("test", given, outputs)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", [*FORMATS, "bf16", "f16", "f32"])
def test_rows_are_gathered_as_they_were(name: str, target: str) -> None:
    table = OneTable(name)
    run = CpuBackend(target, checked=True).compile(table.graph(tied=name == "f32"), table, EXACT)
    ids = np.random.default_rng(1).permutation(ROWS).reshape(2, 35)
    inputs = {"ids": ids, "x": np.zeros((2, 35, table.values.shape[1]), np.float32)}
    got = run({n: inputs[n] for n in run.graph.inputs})
    want = table.values[ids]
    assert np.array_equal(got["rows"], want)
    scale = np.sqrt((want.astype(np.float64) ** 2).mean(-1, keepdims=True) + 1e-6)
    normed = want / scale + want
    assert np.abs(got["normed"] - normed).max() < 1e-6 * max(1, np.abs(normed).max())


@pytest.mark.parametrize("profile", [INT8, EXACT], ids=["int8", "exact"])
@pytest.mark.parametrize("name", ["q8_0", "q6_k", "f32"])
def test_a_tied_table_is_in_memory_once(name: str, profile: object) -> None:
    table = OneTable(name)
    run = CpuBackend().compile(table.graph(tied=True), table, profile)  # type: ignore[arg-type]
    panels = -(-ROWS // 32) * 32 * table.stored.nbytes / ROWS
    shared = name != "f32" or profile is EXACT  # int8 weights made of f32 ones cannot be read back
    assert run.weight_bytes <= panels + 4096 if shared else run.weight_bytes > panels
