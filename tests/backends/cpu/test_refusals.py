"""What the CPU backend does not run is refused by name, and stray accesses are caught in checked mode."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
from compare import Program, rand

from rlxflow.dtypes import f32, i64
from rlxflow.errors import BackendError
from rlxflow.ir.dims import dim
from rlxflow.ir.values import Value
from rlxflow.ops.attention import attention
from rlxflow.ops.elementwise import cast, less
from rlxflow.ops.leaves import full
from rlxflow.ops.linear import linear, matmul
from rlxflow.ops.norm import softmax
from rlxflow.ops.shape import concat, gather, reshape, slice_, transpose

B, S = dim("B"), dim("S")
WEIGHTS = {"table": rand(np.random.default_rng(0), 9, 8), "square": rand(np.random.default_rng(1), 8, 8)}


def _heads(x: Value) -> Value:
    return reshape(x, shape=(B, S, 2, 4))


REFUSED: dict[str, tuple[Callable[[Mapping[str, Value], Mapping[str, Value]], Value], str]] = {
    "transpose": (lambda v, p: transpose(_heads(v["x"]), perm=(0, 1, 3, 2)), "transpose"),
    "tokens-swapped": (lambda v, p: transpose(v["x"], perm=(0, 2, 1)), "transpose"),
    "matmul": (lambda v, p: matmul(_heads(v["x"]), reshape(v["x"], shape=(B, S, 4, 2))), "matmul"),
    "ids-of-many": (lambda v, p: gather(p["table"], reshape(v["pairs"], shape=(B, S, 2))), "gather"),
    "flags-out": (lambda v, p: less(v["x"], full(value=0.0, dtype=f32, shape=())), "stored"),
    "cast": (lambda v, p: cast(v["ids"], dtype=f32), "cast"),
    "softmax-inside": (lambda v, p: softmax(_heads(v["x"]), axis=2), "last axis"),
    "concat-inside": (lambda v, p: concat(_heads(v["x"]), _heads(v["x"]), axis=2), "last axis"),
    "later-token": (lambda v, p: slice_(v["x"], axis=1, start=1, stop=2), "between rows"),
    "inner-slice": (lambda v, p: slice_(_heads(v["x"]), axis=3, start=1, stop=2), "between rows"),
    "rows-of-heads": (
        lambda v, p: linear(reshape(v["x"], shape=(B, S, 1, 2, 4)), p["part"]),
        "rows of shape",
    ),
    "integers-out": (lambda v, p: reshape(v["ids"], shape=(B, S, 1)), "i64"),
    "biased-scores": (lambda v, p: attention(*[_heads(v["x"])] * 3, None, v["bias"], scale=1.0), "bias"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(name: str) -> None:
    make, says = REFUSED[name]
    params = {**WEIGHTS, "part": WEIGHTS["square"][:, :4].copy()}
    inputs = {"x": (("B", "S", 8), f32), "ids": (("B", "S"), i64), "bias": ((2, "S", "S"), f32)}
    inputs["pairs"] = (("B", "S", 2), i64)
    program = Program(lambda v, p: {"y": make(v, p)}, inputs, params)
    with pytest.raises(BackendError) as caught:
        program.compile()
    assert caught.value.code == "RLX-B003" and "reference" in caught.value.hint
    assert says in str(caught.value)


def test_sequences_that_depend_on_each_other_are_refused() -> None:
    swapped = Program(lambda v, p: {"y": transpose(v["x"], perm=(1, 0))}, {"x": ((4, 4), f32)})
    with pytest.raises(BackendError, match="depend on each other"):
        swapped.compile()


@pytest.mark.parametrize("number", [9, -1, 10**9, -(10**9)])
def test_checked_mode_catches_a_stray_access(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the check of ids taken away, a gather leaves its table; the step is named, nothing crashes."""
    monkeypatch.setattr("rlxflow.backends.cpu.executable.check_ids", lambda *_: None)
    program = Program(
        lambda v, p: {"y": linear(gather(p["table"], v["ids"]), p["square"])},
        {"ids": (("B", "S"), i64)},
        WEIGHTS,
    )
    run = program.compile()
    run({"ids": np.array([[0, 8]])})
    with pytest.raises(BackendError) as caught:
        run({"ids": np.array([[0, number]])})
    assert caught.value.code == "RLX-B006" and "gather" in caught.value.where
    run({"ids": np.array([[0, 8]])})
