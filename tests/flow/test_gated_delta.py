"""The Gated DeltaNet scan against Hugging Face, whole, in chunks and token by token."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from goldens import FOLDER, error
from tiny_weights import tiny_tensor

from rlxflow import (
    Emit,
    FlowValue,
    GdnInputSlots,
    GdnScanStage,
    MapWeights,
    ModelFlow,
    RlxError,
    RopeTablesStage,
    SelfAttentionSpec,
)
from rlxflow.backends.cpu.executable import CpuExecutable
from rlxflow.ops.activation import sigmoid
from rlxflow.ops.elementwise import mul, neg
from rlxflow.ops.linear import linear
from rlxflow.ops.shape import reshape
from rlxflow.profile.load import load_profile
from rlxflow.stages.stream import store

NAMES = ("q", "k", "v", "g", "beta")
CASES = ("short", "normed", "carried", "two_chunks", "one_token")
TOLERANCE = 1e-5
BACKENDS = ("reference", "cpu")


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


def started(golden: dict[str, Any], backend: str) -> tuple[Any, Any]:
    profile = load_profile("exact", [f"backend.name={backend}"])
    program = flow(golden).build(MapWeights({})).compile(profile)
    assert isinstance(program, CpuExecutable) is (backend == "cpu")
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
@pytest.mark.parametrize("backend", BACKENDS)
def test_agrees_with_hugging_face_whatever_the_chunks(name: str, chunk: int, backend: str) -> None:
    golden = case(name)
    program, state = started(golden, backend)
    tokens = golden["q"].shape[1]
    parts = [call(program, state, golden, at, min(at + chunk, tokens)) for at in range(0, tokens, chunk)]
    assert error(np.concatenate(parts, 1), golden["y"]) <= TOLERANCE
    assert error(state.arrays["s"], golden["after"]) <= TOLERANCE


@pytest.mark.parametrize("backend", BACKENDS)
def test_padding_yields_zeros_and_leaves_the_state_alone(backend: str) -> None:
    golden = case("carried")
    program, state = started(golden, backend)
    y = call(program, state, golden, 0, 6, pad=3)
    assert error(y[:, :6], golden["y"]) <= TOLERANCE and not y[:, 6:].any()
    assert error(state.arrays["s"], golden["after"]) <= TOLERANCE


def test_a_recurrent_state_grows_nowhere_and_goes_back_to_nothing_only() -> None:
    golden = case("carried")
    program, state = started(golden, "reference")
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


def projected(e: Emit, x: FlowValue | None) -> FlowValue | None:
    """What a scan reads, made from the active value [B, S, 16]: 2 heads of 4 channels."""
    x = e.need(x)
    for name in NAMES:
        inner = (2,) if name in ("g", "beta") else (2, 4)
        y = reshape(linear(x, e.weight(name)), shape=(*x.shape[:2], *inner))
        store(e, f"gdn.{name}", neg(mul(y, y)) if name == "g" else sigmoid(y) if name == "beta" else y)
    return x


def merged(e: Emit, x: FlowValue | None) -> FlowValue:
    x = e.need(x)
    return linear(reshape(x, shape=(*x.shape[:2], 8)), e.weight("out"))


def test_beside_attention_both_backends_agree_for_ragged_prompts_and_single_tokens() -> None:
    shapes = {n: (2 if n in ("g", "beta") else 8, 16) for n in NAMES}
    made = ModelFlow("hybrid").decoder_inputs().embed("embed", 9, 16)
    made = made.custom(projected, shapes).gdn_scan(GdnScanStage("s", qk_l2norm=True))
    made = made.custom(merged, {"out": (16, 8)}).rope_tables(RopeTablesStage(8, 10000.0))
    made = made.self_attention(SelfAttentionSpec("a", 16, 2, 1, 8)).output("y")
    weights = MapWeights({s.key: tiny_tensor(s.key, s.shape) for s in made.weights()})  # type: ignore[arg-type]
    ids = np.random.default_rng(2).integers(0, 9, (3, 6))
    results = []
    for backend in BACKENDS:
        profile = load_profile("exact", [f"backend.name={backend}", "backend.cpu.threads=2"])
        program = made.build(weights).compile(profile)
        state, past = program.new_state(3, 12), np.zeros(3, np.int32)
        found = []
        for counts in ([6, 2, 4], [1, 1, 1], [0, 3, 1]):
            new = np.array(counts, np.int32)
            inputs = {"input_ids": ids[:, : new.max()], "past_len": past, "new_len": new}
            found.append(program(inputs, state)["y"])
            past = past + new
        results.append([*found, state.arrays["s"]])
    for one, other in zip(*results, strict=True):
        assert np.abs(one).max() > 0.1 and error(other, one) <= TOLERANCE
