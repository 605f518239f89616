"""Graphs with tokens of several axes, in checked mode: joined, attended to, and each on its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
from compare import PROFILE, TARGETS, Program, close, rand

from rlxflow.dtypes import f32, i64
from rlxflow.errors import BackendError
from rlxflow.ir.dims import dim
from rlxflow.ir.values import Value
from rlxflow.ops.activation import silu
from rlxflow.ops.attention import attention
from rlxflow.ops.elementwise import add, mul
from rlxflow.ops.linear import linear
from rlxflow.ops.pooling import mean_pool
from rlxflow.ops.shape import concat, gather, reshape, select_token, slice_
from rlxflow.profile.load import load_profile

B, S, T = dim("B"), dim("S"), dim("T")
INPUTS = {
    "x": (("B", "S", 12), f32),
    "y": (("B", "T", 12), f32),
    "c": (("B", 12), f32),
    "ids": (("B", "T"), i64),
}
RNG = np.random.default_rng(4)
PARAMS = {"w": rand(RNG, 12, 12), "u": rand(RNG, 12, 12), "table": rand(RNG, 5, 12)}


def _heads(x: Value) -> Value:
    return reshape(x, shape=(x.dim(0), x.dim(1), 3, 4))


def _streams(v: Mapping[str, Value], p: Mapping[str, Value]) -> dict[str, Value]:
    gate = reshape(silu(v["c"]), shape=(B, 1, 12))
    x, y = mul(linear(v["x"], p["w"]), gate), linear(add(v["y"], gather(p["table"], v["ids"])), p["u"])
    keys = concat(_heads(y), _heads(x), _heads(v["y"]), axis=1)
    values = concat(_heads(v["y"]), _heads(v["x"]), _heads(y), axis=1)
    found = [attention(_heads(q), keys, values, scale=0.5) for q in (x, y)]
    return {"x": found[0], "y": linear(reshape(found[1], shape=(B, T, 12)), p["w"]), "keys": keys}


@pytest.mark.parametrize("target", TARGETS)
def test_agree_with_the_reference_for_any_sizes(target: str) -> None:
    program = Program(_streams, INPUTS, PARAMS)
    run = program.compile(target)
    for batch, first, second in ((1, 1, 1), (3, 5, 9), (2, 40, 3), (5, 7, 1)):
        rng = np.random.default_rng(batch)
        inputs = {
            "x": rand(rng, batch, first, 12),
            "y": rand(rng, batch, second, 12),
            "c": rand(rng, batch, 12),
        }
        inputs["ids"] = rng.integers(0, 5, (batch, second))
        close(run(inputs), program.reference(inputs), 1e-5)


def test_threads_and_company_change_no_bit() -> None:
    program, rng = Program(_streams, INPUTS, PARAMS), np.random.default_rng(9)
    inputs = {"x": rand(rng, 6, 90, 12), "y": rand(rng, 6, 33, 12), "c": rand(rng, 6, 12)}
    inputs["ids"] = rng.integers(0, 5, (6, 33))
    together = program.compile(profile=load_profile("exact", ["backend.cpu.threads=2"]))(inputs)
    alone = program.compile(profile=PROFILE)({k: a[2:3] for k, a in inputs.items()})
    assert all(np.array_equal(alone[n][0], together[n][2]) for n in alone)


REFUSED: dict[str, Callable[[Mapping[str, Value], Mapping[str, Value]], Value]] = {
    "its mask is not": lambda v, p: mean_pool(v["y"], v["ids"]),
    "its tokens are not those of S": lambda v, p: select_token(v["y"], add(v["one"], v["one"])),
    "between rows": lambda v, p: slice_(v["y"], axis=1, start=0, stop=1),
    "all queries or none": lambda v, p: attention(*(_heads(v[n]) for n in "xyy"), scale=1.0, causal=True),
    "joins tokens with what is none": lambda v, p: concat(reshape(v["c"], shape=(B, 1, 12)), v["x"], axis=1),
}


@pytest.mark.parametrize("says", REFUSED)
def test_what_no_kernel_does_is_refused_by_name(says: str) -> None:
    with pytest.raises(BackendError, match=says) as caught:
        Program(lambda v, p: {"z": REFUSED[says](v, p)}, {**INPUTS, "one": (("B",), i64)}, PARAMS).compile()
    assert caught.value.code == "RLX-B003"
