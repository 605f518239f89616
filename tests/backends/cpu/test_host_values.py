"""Integers that are computed on the host, and followed by gathers and selections."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from compare import Array, Program, close, lengths_mask, rand

from rlxflow.backends.cpu.executable import CpuExecutable
from rlxflow.dtypes import f32, i32, i64
from rlxflow.errors import InputError
from rlxflow.ir.dims import dim
from rlxflow.ir.values import Value
from rlxflow.ops.elementwise import add, maximum, mul, sub
from rlxflow.ops.leaves import full, iota
from rlxflow.ops.pooling import mean_pool
from rlxflow.ops.shape import broadcast_to, gather, reshape, select_token

B, S = dim("B"), dim("S")
ROWS = 40


def program() -> Program:
    def build(v: Mapping[str, Value], p: Mapping[str, Value]) -> Mapping[str, Value]:
        two = full(value=2.0, dtype=i64, shape=())
        places = iota(size=S, dtype=i64)
        shifted = add(broadcast_to(reshape(v["start"], shape=(B, 1)), shape=(B, S)), mul(places, two))
        x = add(gather(p["table"], v["ids"]), gather(p["table"], shifted))
        x = add(x, gather(p["table"], maximum(sub(v["ids"], two), full(value=0.0, dtype=i64, shape=()))))
        chain = v["ids"]
        for _ in range(60):
            chain = sub(add(chain, chain), chain)
        return {"x": x, "mean": mean_pool(add(x, gather(p["table"], chain)), v["mask"])}

    spec = {"ids": (("B", "S"), i64), "start": (("B",), i64), "mask": (("B", "S"), i64)}
    return Program(build, spec, {"table": rand(np.random.default_rng(0), ROWS, 7)})


def inputs_of(lengths: tuple[int, ...], size: int, left: bool) -> dict[str, Array]:
    rng = np.random.default_rng(size)
    ids = rng.integers(0, ROWS, (len(lengths), size))
    start = rng.integers(0, 9, len(lengths))
    return {"ids": ids, "start": start, "mask": lengths_mask(lengths, size, left)}


def test_arithmetic_of_ids_and_positions() -> None:
    """Positions count from a sequence's first valid token."""
    made = program()
    run = made.compile()
    for lengths, size, left in (
        ((5,), 5, False),
        ((3, 9, 1), 9, False),
        ((3, 9, 1), 9, True),
        ((0, 4), 6, True),
    ):
        inputs = inputs_of(lengths, size, left)
        close(run(inputs), made.reference(inputs), 1e-6)


def test_computed_ids_are_checked() -> None:
    run = program().compile()
    inputs = inputs_of((6, 2), 6, False)
    for start in (-1, 30):
        inputs["start"][0] = start
        with pytest.raises(InputError) as caught:
            run(inputs)
        assert caught.value.code == "RLX-R001"


@pytest.mark.parametrize("given", [True, False])
def test_one_token_per_sequence_is_selected(given: bool) -> None:
    def build(v: Mapping[str, Value], _: Mapping[str, Value]) -> Mapping[str, Value]:
        one = full(value=1.0, dtype=i32, shape=())
        index = v["index"] if given else sub(add(v["index"], one), one)
        return {"y": select_token(add(v["x"], v["x"]), index)}

    made = Program(build, {"x": (("B", "S", 19), f32), "index": (("B",), i32)})
    run: CpuExecutable = made.compile()
    x = rand(np.random.default_rng(0), 3, 5, 19)
    inputs = {"x": x, "index": np.array([4, 0, 2], np.int32)}
    close(run(inputs), made.reference(inputs), 0.0)
    for bad in (5, -1):
        with pytest.raises(InputError) as caught:
            run({"x": x, "index": np.array([4, bad, 2], np.int32)})
        assert caught.value.code == "RLX-R001"
