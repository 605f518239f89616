"""Decoders in every phase: against Hugging Face, the reference backend, and themselves in company."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from weakref import ref

import goldens
import numpy as np
import pytest
from compare import TARGETS, Array, compile_decoder
from model_files import write_golden
from reference_models import compiled, decoder, step, tokens

import rlxflow
from rlxflow.backends.cpu.executable import CpuExecutable
from rlxflow.backends.cpu.regions import FUSIONS
from rlxflow.dtypes import f16
from rlxflow.errors import BackendError, InputError
from rlxflow.profile.load import load_profile

TOLERANCE = 2e-5
CPU = load_profile("exact", ["backend.name=cpu"])
GOLDENS = [
    ("llama", "gqa_tied"), ("llama", "wide_heads"), ("llama", "odd_sizes"), ("llama", "mqa_three_layers"),
    ("llama", "all_biases"), ("llama", "theta_left_padding"), ("llama", "longrope_beyond"),
    ("qwen2", "plain"), ("qwen2", "window_all_layers"), ("qwen2", "gelu_tanh_odd"),
    ("qwen2", "dynamic_beyond"), ("qwen3", "odd_heads"), ("qwen3", "yarn_full"),
    ("qwen3", "window_from_layer"),
]  # fmt: skip
VARIANTS: dict[str, dict[str, Any]] = {
    "gqa": {},
    "mha": {"num_kv_heads": 4, "head_dim": 10},
    "mqa": {"num_kv_heads": 1, "qkv_bias": True, "head_dim": 16},
    "qk-norm": {"qk_norm": True, "head_dim": 8},
    "window": {"window": 3},
    "interleaved": {"interleaved_rope": True, "scale": 0.9, "activation": "gelu_tanh"},
    "many-heads": {"num_heads": 24, "num_kv_heads": 2},
    "dynamic": {
        "scaling": (("factor", 4.0), ("original_max_position_embeddings", 8), ("rope_type", "dynamic"))
    },
}


@pytest.mark.parametrize(("model_type", "name"), GOLDENS)
def test_goldens(model_type: str, name: str, tmp_path: Path) -> None:
    golden = goldens.hf_case(model_type, name)
    model = rlxflow.load(write_golden(tmp_path, golden), profile=CPU)
    assert isinstance(model.executable, CpuExecutable)
    inputs = {n: a for n, a in golden.inputs.items() if n != "position_ids"}
    assert golden.error(model(**inputs)["logits"]) <= TOLERANCE


def worst(got: Array, want: Array) -> float:
    return float(np.abs(got - want).max(initial=0) / max(1.0, np.abs(want).max(initial=0)))


def in_chunks(model: Any, ids: Array, lengths: Array, sizes: list[int]) -> tuple[Array, Array]:
    """Logits at every position, and the last ones of every call, of sequences that end at their lengths."""
    state, start = model.new_state(len(ids), 4), 0
    logits, last = [], []
    for size in sizes:
        new = np.clip(lengths - start, 0, size)
        state.grow(start + size)
        result = step(model, state, ids[:, start : start + size], np.minimum(start, lengths), new)
        logits.append(result["logits"])
        last.append(result["last_logits"])
        start += size
    return np.concatenate(logits, 1), np.stack(last)


@pytest.mark.parametrize("name", VARIANTS)
def test_phases_agree_with_the_reference(name: str) -> None:
    """Prefill, chunks, single tokens and empty rows, every access checked."""
    flow = decoder(2, **VARIANTS[name])
    reference, run = compiled(flow), compile_decoder(flow, checked=True)
    lengths = np.array([13, 0, 5, 11])
    ids, _ = tokens(lengths, 13, seed=3)
    for sizes in ([13], [5, 1, 7], [1] * 13):
        got, want = (in_chunks(m, ids, lengths, sizes) for m in (run, reference))
        assert all(worst(g, w) <= TOLERANCE for g, w in zip(got, want, strict=True))


@pytest.mark.parametrize("target", TARGETS)
def test_long_contexts_and_narrow_targets(target: str) -> None:
    """Several blocks of keys and of queries, and every range of keys."""
    flow = decoder(1, window=150 if target == "avx2" else 0, head_dim=20, num_kv_heads=2)
    reference, run = compiled(flow), compile_decoder(flow, target=target)
    lengths = np.array([1100, 333])
    ids, _ = tokens(lengths, 1100, seed=1)
    for sizes in ([1100], [900, 31, 1, 167, 1]):
        got, want = (in_chunks(m, ids, lengths, sizes)[1] for m in (run, reference))
        assert worst(got, want) <= TOLERANCE


@pytest.fixture(scope="module")
def teams() -> dict[int, CpuExecutable]:
    flow = decoder(2, num_heads=6, num_kv_heads=3, window=0)
    return {n: compile_decoder(flow, threads=n) for n in (1, 2, 3)}


def test_a_sequence_has_the_same_bits_in_any_company(teams: dict[int, CpuExecutable]) -> None:
    """Batch mates in other phases, other padding, other capacities, any number of threads."""
    rng = np.random.default_rng(5)
    for _ in range(25):
        batch = int(rng.integers(1, 6))
        first, second = (rng.integers(0, 90, batch) for _ in range(2))
        second[rng.random(batch) < 0.5] = 1
        ids = rng.integers(1, 30, (2, batch, 96))
        results = []
        for threads, spare in ((1, 0), (2, 7), (3, 40)):
            run = teams[threads]
            state = run.new_state(batch, 190 + spare)
            step(run, state, ids[0], np.zeros(batch), first)
            results.append(step(run, state, ids[1], first, second))
        for name in results[0]:
            assert all(np.array_equal(r[name], results[0][name]) for r in results)
        row, run = int(rng.integers(batch)), teams[1]
        state, count = run.new_state(1, 180), int(second[row])
        step(run, state, ids[0, row : row + 1, : first[row]], [0], [first[row]])
        alone = step(run, state, ids[1, row : row + 1, :count], [first[row]], [count])
        assert np.array_equal(alone["last_logits"][0], results[0]["last_logits"][row])
        assert np.array_equal(alone["logits"][0], results[0]["logits"][row, :count])


@pytest.mark.parametrize("fusion", FUSIONS)
def test_each_fusion_can_be_left_out(fusion: str) -> None:
    flow = decoder(1, qk_norm=True, head_dim=8)
    whole, alone = (compile_decoder(flow, checked=True, preset="decode", apart=a) for a in ((), (fusion,)))
    assert len(alone.steps) > len(whole.steps)
    lengths = np.array([13, 5])
    ids, _ = tokens(lengths, 13, seed=3)
    got, want = (in_chunks(run, ids, lengths, [12, 1]) for run in (alone, whole))
    assert all(map(np.array_equal, got, want))


def test_a_cache_that_grows_and_forgets(teams: dict[int, CpuExecutable]) -> None:
    run = teams[2]
    ids, _ = tokens([9], seed=1)
    state = run.new_state(1, 2)
    for position in range(9):
        state.grow(position + 1)
        want = step(run, state, ids[:, position : position + 1], [position], [1])
    state.truncate(np.array([4]))
    other = step(run, state, ids[:, ::-1].copy()[:, :5], [4], [5])
    again = step(run, state, ids[:, 4:], [4], [5])
    assert worst(again["last_logits"], want["last_logits"]) <= TOLERANCE
    assert worst(other["last_logits"], want["last_logits"]) > 100 * TOLERANCE


def test_a_call_keeps_no_state_alive(teams: dict[int, CpuExecutable]) -> None:
    """Else caches would be there twice while they grow, and be held by a model that nobody uses."""
    state = teams[2].new_state(1, 8)
    step(teams[2], state, np.ones((1, 2), np.int64), [0], [2])
    before = [ref(array) for array in state.arrays.values()]
    state.grow(16)
    assert not any(r() is not None for r in before)


@pytest.mark.parametrize(
    ("past", "new", "code"),
    [([7], [2], "RLX-R009"), ([-1], [2], "RLX-R008"), ([0], [3], "RLX-R008"), ([0], [-1], "RLX-R008"),
     ([2**31 - 1], [2], "RLX-R009")],
)  # fmt: skip
def test_lengths_are_checked(teams: dict[int, CpuExecutable], past: Any, new: Any, code: str) -> None:
    state = teams[1].new_state(1, 8)
    with pytest.raises(InputError) as caught:
        step(teams[1], state, np.ones((1, 2), np.int64), past, new)
    assert caught.value.code == code and caught.value.hint


def test_states_are_checked(teams: dict[int, CpuExecutable]) -> None:
    run, ids = teams[1], np.ones((1, 2), np.int64)
    with pytest.raises(BackendError, match="needs a cache state"):
        step(run, None, ids, [0], [2])
    state = run.new_state(1, 8)
    step(run, state, ids, [0], [2])
    name = next(iter(state.arrays))
    whole = state.arrays[name]
    for bad in (whole[:, :, :4], whole.astype(np.float64), np.asfortranarray(whole)):
        state.arrays[name] = bad
        with pytest.raises(InputError) as caught:
            step(run, state, ids, [0], [2])
        assert caught.value.code == "RLX-R014"


def test_only_wanted_outputs_are_computed_but_caches_always(teams: dict[int, CpuExecutable]) -> None:
    run = teams[1]
    ids, _ = tokens([6], seed=2)
    everything, last = run.new_state(1, 8), run.new_state(1, 8)
    whole = step(run, everything, ids, [0], [6])
    assert list(step(run, last, ids[:, :5], [0], [5], outputs=())) == []
    found = step(run, last, ids[:, 5:], [5], [1], outputs=("last_logits",))
    assert list(found) == ["last_logits"]
    assert worst(found["last_logits"], whole["last_logits"]) <= TOLERANCE


@pytest.mark.parametrize("heads", [(4, 4, 6), (4, 2, 20), (12, 1, 16), (6, 2, 33)])
@pytest.mark.parametrize("target", TARGETS)
def test_half_precision_caches(heads: tuple[int, int, int], target: str) -> None:
    """Keys and values rounded to f16 once, as the reference backend has them; the rounding shows."""
    heads_, kv_heads, head_dim = heads
    flow = decoder(1, num_heads=heads_, num_kv_heads=kv_heads, head_dim=head_dim - head_dim % 2, window=90)
    half = compiled(flow, kv_dtype=f16)
    full = compiled(flow)
    run = compile_decoder(flow, target=target, checked=True, kv_dtype=f16)
    lengths = np.array([150, 71, 0])
    ids, _ = tokens(lengths, 150, seed=1)
    for sizes in ([150], [70, 1, 78, 1]):
        got, want, exact = (in_chunks(m, ids, lengths, sizes)[1] for m in (run, half, full))
        assert worst(got, want) <= 2e-4  # a value near a tie may round the other way
        assert worst(got, exact) > TOLERANCE
