"""One layer description for every phase: prefill, chunks and single steps agree, and so do both policies."""

from __future__ import annotations

import sys
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from reference_models import HIDDEN, compiled, decoder, encode, encoder, step, tokens

from rlxflow.backends.base import CacheState, more_room
from rlxflow.backends.reference.executable import ReferenceExecutable
from rlxflow.dtypes import Array
from rlxflow.flow.flow import ModelFlow
from rlxflow.ops.activation import relu
from rlxflow.ops.elementwise import add
from rlxflow.stages.custom import CustomStage
from rlxflow.stages.norm import RmsNormStage

VARIANTS: dict[str, dict[str, Any]] = {
    "gqa": {},
    "mha": {"num_kv_heads": 4},
    "mqa-biases": {"num_kv_heads": 1, "qkv_bias": True, "out_bias": True, "mlp_bias": True},
    "qk-norm": {"qk_norm": True, "head_dim": 8},
    "window": {"window": 3},
    "interleaved": {"interleaved_rope": True, "scale": 0.9, "activation": "gelu_tanh"},
    "yarn": {"scaling": (("factor", 4.0), ("original_max_position_embeddings", 8), ("rope_type", "yarn"))},
}
MODELS = {name: compiled(decoder(2, **changes)) for name, changes in VARIANTS.items()}
TOLERANCE = 1e-5


def in_chunks(model: ReferenceExecutable, ids: Array, sizes: list[int]) -> Array:
    """Logits at every position, the sequence given in chunks."""
    state, past, logits = model.new_state(len(ids), 4), 0, []
    for size in sizes:
        state.grow(past + size)
        chunk = ids[:, past : past + size]
        result = step(model, state, chunk, [past] * len(ids), [size] * len(ids))
        assert error(result["last_logits"], result["logits"][:, -1]) <= TOLERANCE
        logits.append(result["logits"])
        past += size
    return np.concatenate(logits, axis=1)


def error(got: Array, want: Array) -> float:
    return float(np.abs(got - want).max() / max(1.0, np.abs(want).max()))


@pytest.mark.parametrize("name", VARIANTS)
def test_prefill_chunks_and_steps_agree_at_every_position(name: str) -> None:
    model = MODELS[name]
    ids, _ = tokens([11, 11], seed=3)
    whole = in_chunks(model, ids, [11])
    assert np.abs(whole).max() > 0.5
    for sizes in ([1] * 11, [5, 1, 5], [4, 4, 3], [10, 1]):
        assert error(in_chunks(model, ids, sizes), whole) <= TOLERANCE


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=5))
def test_any_split_agrees(sizes: list[int]) -> None:
    ids, _ = tokens([sum(sizes)], seed=4)
    assert (
        error(in_chunks(MODELS["gqa"], ids, sizes), in_chunks(MODELS["gqa"], ids, [sum(sizes)])) <= TOLERANCE
    )


@pytest.mark.parametrize("name", list(VARIANTS)[1:])
def test_each_setting_of_a_layer_moves_the_numbers(name: str) -> None:
    """A switch that did nothing would make the agreement above worthless."""
    ids, _ = tokens([9], seed=3)
    assert error(in_chunks(MODELS[name], ids, [9]), in_chunks(MODELS["gqa"], ids, [9])) > 100 * TOLERANCE


def test_rows_of_different_phases_in_one_call() -> None:
    """One row prefills, one decodes, one idles."""
    model = MODELS["gqa"]
    ids, _ = tokens([8, 8, 8], seed=8)
    want = in_chunks(model, ids, [8])
    state = model.new_state(3, 8)
    step(model, state, ids[:, :6], [0, 0, 0], [0, 6, 6])
    row = np.zeros((3, 8), np.int64)
    row[0], row[1, :1] = ids[0], ids[1, 6:7]
    mixed = step(model, state, row, [0, 6, 6], [8, 1, 0])
    assert error(mixed["logits"][0], want[0]) <= TOLERANCE
    assert error(mixed["last_logits"][1], want[1, 6]) <= TOLERANCE
    assert not mixed["last_logits"][2].any()
    last = step(model, state, ids[:, 6:8], [8, 7, 6], [0, 1, 2])
    assert error(last["last_logits"][2], want[2, 7]) <= TOLERANCE


def test_truncating_a_cache_goes_back_in_time() -> None:
    model = MODELS["gqa"]
    ids, other = tokens([7], seed=1)[0], tokens([7], seed=2)[0]
    state = model.new_state(1, 16)
    step(model, state, ids, [0], [7])
    state.lengths = np.array([7], np.int32)
    state.truncate(np.array([3]))
    assert state.lengths.tolist() == [3]
    again = step(model, state, other[:, 3:], state.lengths, [4])
    mixed = np.concatenate([ids[:, :3], other[:, 3:]], axis=1)
    assert error(again["last_logits"], in_chunks(model, mixed, [7])[:, -1]) <= TOLERANCE


@pytest.mark.parametrize("kind", [np.float32, np.float16])
def test_growing_keeps_what_is_held_and_costs_little(kind: Any) -> None:
    held = {"k": np.arange(12, dtype=kind).reshape(1, 2, 3, 2)}
    state = CacheState(dict(held), np.array([3], np.int32), 3)
    copies = 0
    for capacity in range(1, 1000):
        before = state.arrays["k"]
        if capacity > state.capacity:
            state.grow(max(capacity, more_room(state.capacity)))
        copies += state.arrays["k"] is not before
        assert state.capacity >= capacity == max(capacity, 0)
    assert copies <= 30 and state.arrays["k"].dtype == kind
    assert np.array_equal(state.arrays["k"][:, :, :3], held["k"]) and not state.arrays["k"][:, :, 3:].any()


def test_growing_from_nothing_and_truncating_past_the_end() -> None:
    state = CacheState({"k": np.zeros((2, 1, 0, 4), np.float32)}, np.zeros(2, np.int32), 0)
    state.grow(5)
    assert state.capacity == 5 and state.arrays["k"].shape == (2, 1, 5, 4)
    state.lengths = np.array([4, 2], np.int32)
    state.truncate(np.array([9, -3]))
    assert state.lengths.tolist() == [4, 0] and state.lengths.dtype == np.int32


# -- the two policies, and a wider oracle ------------------------------------------------------------


@pytest.mark.parametrize("name", VARIANTS)
def test_direct_and_fusable_give_the_same_bits(name: str) -> None:
    ids, _ = tokens([6, 6], seed=5)
    fusable = compiled(decoder(2, **VARIANTS[name]), fusable=True)
    assert np.array_equal(in_chunks(fusable, ids, [4, 2]), in_chunks(MODELS[name], ids, [4, 2]))


def test_direct_and_fusable_encoders_give_the_same_bits() -> None:
    ids, mask = tokens([6, 2], seed=5)
    direct, fusable = (encode(compiled(encoder(2), fusable=f), ids, mask) for f in (False, True))
    assert np.array_equal(direct["embedding"], fusable["embedding"])


def test_float64_is_closer_to_itself() -> None:
    """The float64 program agrees with the float32 one to float32 precision, and with itself far better."""
    wide = compiled(decoder(2), compute=np.float64)
    ids, _ = tokens([8], seed=6)
    exact = in_chunks(wide, ids, [8])
    assert exact.dtype == np.float64
    assert 0 < error(in_chunks(MODELS["gqa"], ids, [8]), exact) < 2e-6
    x, mask = tokens([5, 3])
    narrow, broad = (
        encode(compiled(encoder(2), compute=c), x, mask)["embedding"] for c in (np.float32, np.float64)
    )
    assert 0 < error(narrow, broad) < 2e-6


def test_results_have_the_declared_dtype() -> None:
    flow = (
        ModelFlow("two").input("ids", ("B", "S"), "i64").output("same").embed("words", 30, HIDDEN).output("y")
    )
    for compute in (np.float32, np.float64):
        results = compiled(flow, compute=compute)({"ids": tokens([3])[0]})
        assert results["y"].dtype == compute and results["same"].dtype == np.int64


def test_values_are_freed_after_their_last_use() -> None:
    """Forty values of a megabyte each, of which only a few are held at a time."""
    width = 2**18
    flow = ModelFlow("wide").input("x", (1, width))
    model = compiled(
        flow.append(CustomStage(lambda e, x, i=i: relu(add(x, x)), (), f"s{i}") for i in range(20))
    )
    x = np.ones((1, width), np.float32)
    tracemalloc.start()
    try:
        model({"x": x})
        assert tracemalloc.get_traced_memory()[1] < 6 * x.nbytes
    finally:
        tracemalloc.stop()


def test_a_deep_program_runs_without_recursion() -> None:
    """Deeper than Python's recursion limit, and memory is freed as it goes."""
    depth = sys.getrecursionlimit() + 200
    flow = ModelFlow("deep").input("x", ("B", "S", HIDDEN))
    flow = flow.repeat_layers(depth, lambda i: RmsNormStage(f"norm.weight.{i % 7}", 1e-6))
    result = compiled(flow)({"x": np.ones((1, 1, HIDDEN), np.float32)})
    assert np.isfinite(result["output"]).all()
