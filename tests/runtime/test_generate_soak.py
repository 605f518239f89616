"""A thousand random calls of `generate`: the same text every time, nothing compiled again, no growth."""

from __future__ import annotations

import gc
import sys

import goldens
import numpy as np
import pytest

import rlxflow
from rlxflow import Generation, Request
from rlxflow.backends.cpu import backend
from rlxflow.profile import load_profile
from rlxflow.runtime.prompt_cache import PromptCache

WORDS = ["the", "cat", "sat", "on", "a", "mat", "in", "rain", "it", "is", "dog", "and", "12", "!!"]
CALLS, WARM = 1000, 200


@pytest.fixture(scope="module")
def model() -> rlxflow.Model:
    profile = load_profile("exact", ["backend.name=cpu", "backend.cpu.threads=1"])
    model = rlxflow.load(goldens.gguf_case("llama_gqa_tied").path, profile)
    model.generate(["the", "a cat"], max_new_tokens=2, speculate="prompt-lookup")
    return model


def random_requests(rng: np.random.Generator, count: int) -> list[Request]:
    made = []
    for _ in range(count):
        prompt = " ".join(rng.choice(WORDS, rng.integers(1, 14)))
        sampled = bool(rng.integers(2))
        temperature, seed = (float(rng.uniform(0.2, 1.5)), int(rng.integers(99))) if sampled else (0.0, None)
        stop = tuple(rng.choice(list("eatin"), rng.integers(0, 3)).tolist())
        made.append(Request(prompt, int(rng.integers(0, 8)), temperature, seed=seed, stop=stop))
    return made


def check(found: Generation, expected: Generation) -> None:
    """The same text; of one that was cancelled, its beginning."""
    if found.finish_reason == "cancelled":
        assert expected.token_ids[: len(found.token_ids)] == found.token_ids
        assert expected.text.startswith(found.text)
    else:
        assert (found.text, found.token_ids, found.finish_reason) == (
            expected.text,
            expected.token_ids,
            expected.finish_reason,
        )


def one_call(
    model: rlxflow.Model, caches: list[PromptCache], pool: dict[Request, Generation], rng: np.random.Generator
) -> None:
    """One prompt or several, with or without cache, speculation and a cancelled stream."""
    chosen = [list(pool)[i] for i in rng.integers(len(pool), size=rng.integers(1, 6))]
    speculate = "prompt-lookup" if rng.integers(2) else None
    match rng.integers(4):
        case 0:
            cache = caches[rng.integers(len(caches))]
            found = [model.generate(chosen[0], cache=cache, speculate=speculate)]
        case 1:
            stream = model.generate(chosen, stream=True, speculate=speculate)
            for _ in range(rng.integers(6)):
                next(stream, None)
            stream.close()
            found = stream.generations
        case _:
            found = model.generate(chosen, speculate=speculate)
    for request, generation in zip(chosen, found, strict=False):
        check(generation, pool[request])


def test_a_thousand_random_calls(model: rlxflow.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> bytes:
        raise AssertionError("compiled again")

    monkeypatch.setattr(backend, "compile_text", refuse)
    monkeypatch.setattr(backend, "cached_code", refuse)
    rng = np.random.default_rng(0)
    pool = {request: model.generate(request) for request in random_requests(rng, 60)}
    caches = [model.new_cache() for _ in range(3)]
    before = 0
    for number in range(CALLS):
        one_call(model, caches, pool, rng)
        if number == WARM:
            gc.collect()
            before = sys.getallocatedblocks()
    gc.collect()
    # one object kept per call would be 800; the caches themselves hold a few sequences of ids
    assert sys.getallocatedblocks() - before < 600
    assert sum(cache.nbytes for cache in caches) < 1 << 20
