"""One graph for every phase: prefill, chunks, single tokens; alone, and in any company."""

from __future__ import annotations

from collections.abc import Iterator

import goldens
import numpy as np
import pytest
from model_files import Array, model_inputs, run, write_golden

import rlxflow
from rlxflow.profile.load import load_profile

TOLERANCE = 1e-5
DECODERS = [(t, n) for t in goldens.hf_decoders() for n in goldens.hf_names(t)]
WITHIN = [case for case in DECODERS if "long_rope" not in goldens.hf_case(*case).tags]
SEVERAL = [
    (model_type, name)
    for model_type in goldens.hf_model_types()
    for name in goldens.hf_names(model_type)
    if len(goldens.hf_case(model_type, name).valid) > 1
]


def packed(golden: goldens.Golden) -> tuple[Array, Array, Array]:
    """The batch with its tokens on the left: ids and expected logits, and each row's length."""
    lengths = golden.valid.sum(1).astype(np.int32)
    ids, expected = golden.inputs["input_ids"], golden.expected["logits"]
    shift = golden.valid.argmax(1)
    rolled = [
        np.stack([np.roll(row, -by, axis=0) for row, by in zip(a, shift, strict=True)])
        for a in (ids, expected)
    ]
    return rolled[0], rolled[1], lengths


def feed(model: rlxflow.Model, ids: Array, lengths: Array, steps: list[int], capacity: int) -> Array:
    """Logits [B, S, V], computed in calls of `steps` tokens over one cache; rows that have ended get none."""
    run_once = model.executable
    state = run_once.new_state(len(ids), capacity)
    parts = []
    start = 0
    for count in steps:
        past = np.minimum(start, lengths).astype(np.int32)
        new = np.clip(lengths - start, 0, count).astype(np.int32)
        inputs = {"input_ids": ids[:, start : start + count], "past_len": past, "new_len": new}
        parts.append(run_once(inputs, state, ("logits",))["logits"])
        start += count
    return np.concatenate(parts, 1)


def chunks(total: int, size: int) -> Iterator[int]:
    while total > 0:
        yield min(size, total)
        total -= size


@pytest.mark.parametrize(("model_type", "name"), WITHIN)
def test_chunks_and_single_tokens_agree_with_prefill(model_type: str, name: str, tmp_path) -> None:
    golden = goldens.hf_case(model_type, name)
    model = rlxflow.load(write_golden(tmp_path, golden))
    ids, expected, lengths = packed(golden)
    width = ids.shape[1]
    valid = np.arange(width) < lengths[:, None]
    prefill = feed(model, ids, lengths, [width], width)
    assert goldens.error(prefill, expected, valid) <= TOLERANCE
    for steps in (list(chunks(width, 7)), list(chunks(width, 1))):
        assert goldens.error(feed(model, ids, lengths, steps, width), prefill, valid) <= TOLERANCE


@pytest.mark.parametrize(("model_type", "name"), [("llama", "llama3_new"), ("qwen2", "window_all_layers")])
def test_cache_capacity_changes_no_bit(model_type: str, name: str, tmp_path) -> None:
    golden = goldens.hf_case(model_type, name)
    model = rlxflow.load(write_golden(tmp_path, golden))
    ids, _, lengths = packed(golden)
    steps = list(chunks(ids.shape[1], 5))
    tight, roomy = (feed(model, ids, lengths, steps, capacity) for capacity in (ids.shape[1], 300))
    assert np.array_equal(tight, roomy)


def test_a_half_precision_cache_rounds_once(tmp_path) -> None:
    """What is cached is what every phase reads: phases agree as with f32, the rounding shows against it."""
    golden = goldens.hf_case("qwen3", "plain")
    model = rlxflow.load(write_golden(tmp_path, golden), load_profile("exact", ["precision.kv_cache=f16"]))
    ids, expected, lengths = packed(golden)
    width = ids.shape[1]
    valid = np.arange(width) < lengths[:, None]
    prefill = feed(model, ids, lengths, [width], width)
    singles = feed(model, ids, lengths, list(chunks(width, 1)), width)
    assert goldens.error(singles, prefill, valid) <= 1e-4  # a value near a tie may round the other way
    assert 1e-5 < goldens.error(prefill, expected, valid) < 2e-2


def test_a_cache_that_grows_and_one_that_forgets(tmp_path) -> None:
    golden = goldens.hf_case("qwen3", "window_from_layer")
    model = rlxflow.load(write_golden(tmp_path, golden))
    ids, _, lengths = packed(golden)
    row, length = ids[:1], int(lengths[0])
    whole = feed(model, row, lengths[:1], [length], length)

    def step(state, start: int, stop: int) -> Array:
        state.grow(stop)
        sizes = {"past_len": np.array([start], np.int32), "new_len": np.array([stop - start], np.int32)}
        return model.executable({"input_ids": row[:, start:stop], **sizes}, state, ("logits",))["logits"]

    state = model.executable.new_state(1, 4)
    step(state, 0, 4)
    wrong = step(state, 4, length)
    state.truncate(np.array([4], np.int32))
    again = step(state, 4, length)
    assert np.array_equal(wrong, again)
    assert goldens.error(again, whole[:, 4:]) <= TOLERANCE


@pytest.mark.parametrize(("model_type", "name"), SEVERAL)
def test_a_sequence_has_the_same_bits_alone_and_in_any_batch(model_type: str, name: str, tmp_path) -> None:
    golden = goldens.hf_case(model_type, name)
    model = rlxflow.load(write_golden(tmp_path, golden))
    together = run(model, golden)
    inputs = model_inputs(golden)
    (output,) = golden.expected
    for row, valid in enumerate(golden.valid):
        alone = model(**{key: value[row : row + 1, valid] for key, value in inputs.items()})[output]
        assert np.array_equal(alone[0], together[row, valid])
    order = np.random.default_rng(0).permutation(len(golden.valid))
    wide = {key: np.pad(value[order], ((0, 0), (3, 5))) for key, value in inputs.items()}
    assert np.array_equal(model(**wide)[output], np.pad(together[order], ((0, 0), (3, 5), (0, 0))))


@pytest.mark.parametrize("model_type", goldens.hf_decoders())
def test_last_logits_are_those_of_each_last_token(model_type: str, tmp_path) -> None:
    golden = goldens.hf_case(model_type, "plain")
    model = rlxflow.load(write_golden(tmp_path, golden))
    ids, _, lengths = packed(golden)
    mask = (np.arange(ids.shape[1]) < lengths[:, None]).astype(np.int64)
    found = model(input_ids=ids, attention_mask=mask, outputs=["logits", "last_logits", "last_hidden_state"])
    last = found["logits"][np.arange(len(ids)), lengths - 1]
    # one row through the head or many: the same product, perhaps summed in another order
    assert goldens.error(found["last_logits"], last) <= 1e-6
    assert found["last_hidden_state"].shape == (*ids.shape, golden.config["hidden_size"])
