"""Attention with a bias by head and distance: every distance, both sides of the reach, on every target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from compare import TARGETS, Program, close, lengths_mask, rand

from rlxflow.dtypes import f32, i64
from rlxflow.errors import BackendError
from rlxflow.ir.values import Value
from rlxflow.ops.attention import attention
from rlxflow.ops.elementwise import add
from rlxflow.ops.relative import relative_buckets
from rlxflow.ops.shape import gather, reshape, transpose

HEADS, SIZE = 3, 4


def graph(buckets: int, reach: int, window: int = 0) -> Any:
    def build(x: Mapping[str, Value], w: Mapping[str, Value]) -> Mapping[str, Value]:
        ids = relative_buckets(size=x["x"].dim(1), num_buckets=buckets, max_distance=reach)
        bias = transpose(gather(w["table"], ids), perm=(2, 0, 1))
        heads = reshape(x["x"], shape=(x["x"].dim(0), x["x"].dim(1), HEADS, SIZE))
        y = attention(heads, heads, heads, x["mask"], bias, scale=0.5, window=window)
        return {"y": reshape(y, shape=x["x"].shape)}

    return build


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("buckets", "reach", "window"), [(8, 5, 0), (32, 128, 0), (16, 20, 7)])
def test_agrees_with_the_reference(target: str, buckets: int, reach: int, window: int) -> None:
    rng = np.random.default_rng(4)
    program = Program(
        graph(buckets, reach, window),
        {"x": (("B", "S", HEADS * SIZE), f32), "mask": (("B", "S"), i64)},
        {"table": rand(rng, buckets, HEADS, scale=2.0)},
    )
    compiled = program.compile(target)
    for lengths in ((1, 2), (37, 64, 3), (170, 5)):
        inputs = {
            "x": rand(rng, len(lengths), max(lengths), HEADS * SIZE),
            "mask": lengths_mask(lengths, max(lengths), left=len(lengths) == 3),
        }
        close(compiled(inputs), program.reference(inputs), 2e-6)


def test_a_bias_that_something_else_reads_is_refused() -> None:
    def build(x: Mapping[str, Value], w: Mapping[str, Value]) -> Mapping[str, Value]:
        ids = relative_buckets(size=x["x"].dim(1), num_buckets=8, max_distance=5)
        bias = transpose(gather(w["table"], ids), perm=(2, 0, 1))
        heads = reshape(x["x"], shape=(x["x"].dim(0), x["x"].dim(1), HEADS, SIZE))
        y = attention(heads, heads, heads, None, add(bias, bias), scale=0.5)
        return {"y": reshape(y, shape=x["x"].shape)}

    table = {"table": np.ones((8, HEADS), np.float32)}
    program = Program(build, {"x": (("B", "S", HEADS * SIZE), f32)}, table)
    with pytest.raises(BackendError) as caught:
        program.compile()
    assert caught.value.code == "RLX-B003" and "reference" in caught.value.hint
