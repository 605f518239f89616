"""The Gated DeltaNet scan against Hugging Face, whole, in chunks and token by token."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from goldens import FOLDER, error

from rlxflow import GdnInputSlots, GdnScanStage, MapWeights, ModelFlow, RlxError

NAMES = ("q", "k", "v", "g", "beta")
CASES = ("short", "normed", "carried", "two_chunks", "one_token")
TOLERANCE = 1e-5


def case(name: str) -> dict[str, Any]:
    with np.load(FOLDER / "delta_rule.npz", allow_pickle=False) as file:  # noqa: TID251 (our own file)
        return {key.removeprefix(f"{name}/"): file[key] for key in file.files if key.startswith(f"{name}/")}


def flow(golden: dict[str, Any]) -> ModelFlow:
    heads, key, value = *golden["q"].shape[2:], golden["v"].shape[-1]
    made = ModelFlow("gdn").input("past_len", ("B",), "i32").input("new_len", ("B",), "i32")
    for name in NAMES:
        inner = {"v": (heads, value)}.get(name, (heads,) if name in ("g", "beta") else (heads, key))
        made = made.input(name, ("B", "S", *inner))
    scan = GdnScanStage("s", GdnInputSlots(*NAMES), qk_l2norm=bool(golden["normed"]))
    return made.bind_inputs_to_streams((n, n) for n in NAMES).gdn_scan(scan).output("y")


def started(golden: dict[str, Any]) -> tuple[Any, Any]:
    program = flow(golden).build(MapWeights({})).compile()
    state = program.new_state(len(golden["q"]), 4)
    state.arrays["s"][...] = golden["before"]
    return program, state


def call(program: Any, state: Any, golden: dict[str, Any], past: int, stop: int, pad: int = 0) -> Any:
    batch = len(golden["q"])
    part = {n: golden[n][:, past:stop] for n in NAMES}
    if pad:
        part = {
            n: np.concatenate([a, np.full_like(a[:, :1], 7.0).repeat(pad, 1)], 1) for n, a in part.items()
        }
    lengths = {"past_len": np.full(batch, past, np.int32), "new_len": np.full(batch, stop - past, np.int32)}
    return program({**part, **lengths}, state)["y"]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("chunk", [1, 3, 1000])
def test_agrees_with_hugging_face_whatever_the_chunks(name: str, chunk: int) -> None:
    golden = case(name)
    program, state = started(golden)
    tokens = golden["q"].shape[1]
    parts = [call(program, state, golden, at, min(at + chunk, tokens)) for at in range(0, tokens, chunk)]
    assert error(np.concatenate(parts, 1), golden["y"]) <= TOLERANCE
    assert error(state.arrays["s"], golden["after"]) <= TOLERANCE


def test_padding_yields_zeros_and_leaves_the_state_alone() -> None:
    golden = case("carried")
    program, state = started(golden)
    y = call(program, state, golden, 0, 6, pad=3)
    assert error(y[:, :6], golden["y"]) <= TOLERANCE and not y[:, 6:].any()
    assert error(state.arrays["s"], golden["after"]) <= TOLERANCE


def test_a_recurrent_state_grows_nowhere_and_goes_back_to_nothing_only() -> None:
    golden = case("carried")
    program, state = started(golden)
    call(program, state, golden, 0, 6)
    state.lengths[:] = 6
    state.grow(100)
    assert state.arrays["s"].shape == golden["after"].shape
    state.truncate(np.array([6, 9]))
    with pytest.raises(RlxError) as caught:
        state.truncate(np.array([6, 5]))
    assert caught.value.code == "RLX-R080"
    state.truncate(np.array([0, 6]))
    assert not state.arrays["s"][0].any() and error(state.arrays["s"][1], golden["after"][1]) <= TOLERANCE
    assert state.lengths.tolist() == [0, 6]


def test_streams_that_are_missing_are_named() -> None:
    made = ModelFlow("gdn").decoder_inputs().gdn_scan(GdnScanStage("s")).output("y")
    (problem,) = made.check()
    assert (problem.code, problem.where) == ("RLX-F021", "gdn_scan") and "gdn.q" in problem.message
