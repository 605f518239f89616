"""Sampling: distributions against transformers' processors, draws, speed, and settings out of range."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from text_models import stored

from rlxflow.errors import InputError
from rlxflow.runtime.sampling import Sampler

GOLDEN = stored("sampling")


def row(name: str) -> np.ndarray:
    return np.array([-np.inf if x is None else x for x in GOLDEN["logits"][name]], np.float32)


@pytest.mark.parametrize("name", GOLDEN["logits"])
def test_distributions_equal_transformers(name: str) -> None:
    cases = [case for case in GOLDEN["cases"] if case["logits"] == name]
    assert len(cases) >= 20
    for case in cases:
        ids, probabilities = Sampler(**case["settings"]).distribution(row(name), GOLDEN["history"])
        order = np.argsort(ids)
        assert ids[order].tolist() == case["ids"], case["settings"]
        np.testing.assert_allclose(probabilities[order], case["probabilities"], rtol=1e-7, atol=1e-12)


def test_greedy_takes_the_largest_and_the_lowest_id_of_equals() -> None:
    assert Sampler().next(np.array([1, 5, 5, 2], np.float32)) == 1
    assert Sampler(top_k=1, top_p=0.1, seed=3).next(np.array([-3, -1, -2], np.float16)) == 1


def test_greedy_heeds_the_repetition_penalty() -> None:
    logits = np.array([1.0, 4.0, 3.9, -1.0], np.float32)
    assert Sampler(repetition_penalty=1.1).next(logits, [1, 1]) == 2
    assert Sampler(repetition_penalty=1.1).next(logits, np.array([1])) == 2
    assert Sampler(repetition_penalty=1.1).next(logits, []) == 1
    assert Sampler(repetition_penalty=2.0).next(np.array([-1.0, -1.5], np.float32), [0]) == 1
    assert logits.tolist() == [1.0, 4.0, np.float32(3.9), -1.0]  # the caller's array stays as it was


def test_draws_follow_the_distribution() -> None:
    logits = np.log(np.array([0.5, 0.3, 0.15, 0.05], np.float32))
    sampler = Sampler(temperature=1.0, seed=0)
    counts = np.bincount([sampler.next(logits) for _ in range(20_000)], minlength=4)
    np.testing.assert_allclose(counts / 20_000, [0.5, 0.3, 0.15, 0.05], atol=0.012)


def test_a_seed_repeats_and_samplers_do_not_share_a_generator() -> None:
    logits = row("flat")
    first, second = (Sampler(temperature=1.0, seed=11) for _ in range(2))
    draws = [(first.next(logits), second.next(logits)) for _ in range(50)]
    assert all(a == b for a, b in draws)
    assert len(set(draws)) > 20
    other = Sampler(temperature=1.0, seed=12)
    assert [a for a, _ in draws] != [other.next(logits) for _ in range(50)]


def test_impossible_tokens_are_never_drawn() -> None:
    logits = np.full(50, -np.inf, np.float32)
    logits[[7, 9]] = 0.0
    sampler = Sampler(temperature=2.0, top_k=20, top_p=0.999, seed=1)
    assert {sampler.next(logits) for _ in range(100)} == {7, 9}


def test_the_share_of_each_number() -> None:
    """Every number of [0, 1) falls on a possible token, in proportion; the vocabulary has several blocks."""
    from rlxflow.runtime.sampling import _drawn

    weights = np.random.default_rng(0).random(1000)
    weights[weights < 0.4] = 0.0
    weights[:70] = weights[-70:] = 0.0
    bounds = np.cumsum(weights) / weights.sum()
    for number in (0.0, *np.random.default_rng(1).random(500), *(bounds[:-1] * (1 - 1e-9)), 1 - 2**-53):
        drawn = _drawn(weights, float(number))
        assert weights[drawn] > 0
        assert bounds[drawn] - weights[drawn] / weights.sum() - 1e-12 <= number <= bounds[drawn] + 1e-12


@pytest.mark.parametrize("vocab", [50, 700, 20_000])
def test_the_largest_are_those_of_a_full_sort(vocab: int) -> None:
    logits = np.random.default_rng(vocab).integers(-40, 40, vocab).astype(np.float32)  # with many ties
    for top_k in (1, 7, 40, vocab // 2, vocab - 1):
        ids, _ = Sampler(temperature=1.0, top_k=top_k).distribution(logits)
        least = np.sort(logits)[-top_k]
        np.testing.assert_array_equal(ids, np.flatnonzero(logits >= least))


@pytest.mark.parametrize("temperature", [1e-320, 1e-30, 1e30])
def test_extreme_temperatures(temperature: float) -> None:
    logits = np.array([3e38, -3e38, 2.9e38], np.float32)
    ids, probabilities = Sampler(temperature=temperature).distribution(logits)
    assert np.isfinite(probabilities).all()
    assert abs(probabilities.sum() - 1) < 1e-12
    assert ids[np.argmax(probabilities)] == 0


def test_a_nucleus_wider_than_the_first_look() -> None:
    logits = np.zeros(50_000, np.float32)
    ids, probabilities = Sampler(temperature=1.0, top_p=0.5).distribution(logits)
    assert ids.tolist() == list(range(25_000))
    np.testing.assert_allclose(probabilities, 1 / 25_000)


SETTINGS = {
    "temperature": (-0.1, float("nan"), float("inf"), "1", None, True),
    "top_k": (-1, 1.5, "3", None, True),
    "top_p": (0.0, -0.5, 1.0001, float("nan"), "1", None),
    "min_p": (-0.01, 1.1, float("nan"), "0"),
    "repetition_penalty": (0.0, -1.0, 1e9, float("nan"), float("inf"), "1"),
    "seed": (-1, 1.5, "x", True),
}


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in SETTINGS.items() for v in values])
def test_settings_out_of_range(name: str, value: Any) -> None:
    with pytest.raises(InputError) as caught:
        Sampler(**{name: value})
    assert caught.value.code == "RLX-R030"
    assert caught.value.where == f"{name}="
    assert ("finite number" in caught.value.hint) or ("integer of 0 or more" in caught.value.hint)


LOGITS = {
    "nan": [0.0, float("nan")],
    "inf": [0.0, float("inf")],
    "all-masked": [-float("inf")] * 3,
    "empty": [],
    "two-rows": [[0.0, 1.0]],
    "integers": np.array([1, 2]),
}


@pytest.mark.parametrize("case", LOGITS)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_cannot_be_sampled(case: str, temperature: float) -> None:
    with pytest.raises(InputError) as caught:
        Sampler(temperature=temperature).next(np.asarray(LOGITS[case]))
    assert caught.value.code == "RLX-R031"
    assert "one row of finite float logits" in caught.value.hint


@pytest.mark.parametrize("history", [[-1], [4], [1.5], ["a"]])
def test_a_history_outside_the_vocabulary(history: Any) -> None:
    with pytest.raises(InputError, match="outside 0 … 3") as caught:
        Sampler(repetition_penalty=1.2).next(np.zeros(4, np.float32), history)
    assert caught.value.code == "RLX-R031"
    assert "ids of the prompt" in caught.value.hint
