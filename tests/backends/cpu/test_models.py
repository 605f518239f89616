"""Whole encoders: golden configs, MiniLM's real weights, and results that do not depend on company."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import goldens
import numpy as np
import pytest
import real_models
from compare import Array
from model_files import model_inputs, write_golden

import rlxflow
from rlxflow.backends.cpu.executable import CpuExecutable
from rlxflow.backends.cpu.target import Target
from rlxflow.errors import InputError
from rlxflow.profile.load import load_profile

TOLERANCE = 1e-5
CPU = load_profile("exact", ["backend.name=cpu"])


ENCODERS = [t for t in goldens.hf_model_types() if t not in goldens.hf_decoders()]


@pytest.mark.parametrize(("model_type", "name"), [(t, n) for t in ENCODERS for n in goldens.hf_names(t)])
def test_golden_configs(model_type: str, name: str, tmp_path: Path) -> None:
    golden = goldens.hf_case(model_type, name)
    model = rlxflow.load(write_golden(tmp_path, golden), profile=CPU)
    assert isinstance(model.executable, CpuExecutable)
    (output,) = golden.expected
    assert golden.error(model(**model_inputs(golden))[output]) <= TOLERANCE


@pytest.fixture(scope="module", params=["plain products", "paired products"])
def minilm(request: pytest.FixtureRequest) -> rlxflow.Model:
    profile = load_profile("encoder", ["backend.name=cpu"]) if request.param.startswith("paired") else CPU
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Target, "sums_beside_products", True)
        return rlxflow.load(real_models.minilm(), profile=profile)


def test_sixty_texts_agree_with_sentence_transformers(minilm: rlxflow.Model) -> None:
    golden = goldens.minilm()
    with pytest.warns(rlxflow.TruncationWarning):  # as sentence-transformers cuts them, silently
        got = minilm.embed(golden.texts, progress=False)
    assert np.abs(got - golden.embeddings).max() <= 1e-5
    norms = np.linalg.norm(got, axis=1) * np.linalg.norm(golden.embeddings, axis=1)
    assert ((got * golden.embeddings).sum(1) / norms).min() >= 0.999999


def inputs_of(
    rng: np.random.Generator, lengths: Mapping[int, int] | list[int], size: int, left: bool
) -> dict[str, Array]:
    ids, mask = np.zeros((len(lengths), size), np.int64), np.zeros((len(lengths), size), np.int64)
    for row, length in enumerate(lengths):
        columns = slice(size - length, size) if left else slice(0, length)
        ids[row, columns] = rng.integers(1000, 30000, length)
        mask[row, columns] = 1
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


def test_results_do_not_depend_on_company(minilm: rlxflow.Model) -> None:
    """Every sequence alone, in a batch, and padded on either side: the same bits."""
    rng = np.random.default_rng(5)
    run: Any = minilm.executable
    for left in (False, True):
        lengths = [37, 1, 64, 15, 17, 90, 2]
        together = inputs_of(rng, lengths, 97, left)
        batch = run(together)
        for row, length in enumerate(lengths):
            columns = slice(97 - length, 97) if left else slice(0, length)
            alone = run({n: a[row : row + 1, columns].copy() for n, a in together.items()})
            assert np.array_equal(alone["embedding"][0], batch["embedding"][row])
            assert np.array_equal(alone["last_hidden_state"][0], batch["last_hidden_state"][row, columns])
            assert not batch["last_hidden_state"][row].any(1).sum() > length


def test_only_wanted_outputs_are_computed(minilm: rlxflow.Model) -> None:
    run: Any = minilm.executable
    inputs = inputs_of(np.random.default_rng(1), [5, 3], 6, False)
    everything = run(inputs)
    for name in everything:
        found = run(inputs, None, (name,))
        assert list(found) == [name] and np.array_equal(found[name], everything[name])
    with pytest.raises(InputError, match="no output 'embeding'"):
        run(inputs, None, ("embeding",))


def test_inputs_are_read_in_place_and_never_written(minilm: rlxflow.Model) -> None:
    run: Any = minilm.executable
    inputs = inputs_of(np.random.default_rng(2), [5, 9], 9, False)
    want = run(inputs)
    odd = {n: np.asfortranarray(a) for n, a in inputs.items()}
    for array in odd.values():
        array.flags.writeable = False
    got = run(odd)
    for name in want:
        assert np.array_equal(got[name], want[name]) and got[name].flags.owndata


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda ids: np.put(ids, 1, 30522), "RLX-R001"),
        (lambda ids: np.put(ids, 1, -1), "RLX-R001"),
        (lambda ids: ids.resize((1, 513), refcheck=False), "RLX-R001"),
    ],
)
def test_ids_and_lengths_are_checked_first(minilm: rlxflow.Model, change: Any, code: str) -> None:
    ids = np.ones((1, 4), np.int64)
    change(ids)
    run: Any = minilm.executable
    rest = {"attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    with pytest.raises(InputError) as caught:
        run({"input_ids": ids, **rest})
    assert caught.value.code == code and caught.value.hint


def test_padding_may_hold_any_id(minilm: rlxflow.Model) -> None:
    run: Any = minilm.executable
    inputs = inputs_of(np.random.default_rng(2), [3], 5, False)
    want = run(inputs)
    inputs["input_ids"][0, 3:] = -7
    assert np.array_equal(run(inputs)["embedding"], want["embedding"])
    inputs["attention_mask"][:] = 0
    assert not run(inputs)["embedding"].any()
    none = {n: a[:0] for n, a in inputs.items()}
    assert run(none)["embedding"].shape == (0, 384)
