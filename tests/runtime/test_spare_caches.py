"""Caches that one generation leaves to the next: never shared, never read behind what was written."""

from __future__ import annotations

import threading
from collections.abc import Callable
from weakref import ref

import goldens
import numpy as np
import pytest
import real_models

import rlxflow
from rlxflow.backends.base import CacheState
from rlxflow.errors import RlxError
from rlxflow.profile import load_profile
from rlxflow.runtime.decoding import Decoding
from rlxflow.runtime.sampling import Sampler

PROMPT = "the cat sat on the mat"


@pytest.fixture
def made(model: rlxflow.Model, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Sequences and positions of all caches that are made."""
    sizes: list[tuple[int, int]] = []
    new_state = model.executable.new_state

    def noted(batch: int, capacity: int) -> CacheState:
        sizes.append((batch, capacity))
        return new_state(batch, capacity)

    monkeypatch.setattr(model.executable, "new_state", noted)
    return sizes


def spare(model: rlxflow.Model) -> CacheState:
    (state,) = model.spare_caches
    return state


def logits_of(decoding: Decoding, parts: list[list[int]]) -> list[np.ndarray]:
    return [decoding.feed({0: part})[0] for part in parts]


def test_the_next_generation_takes_them(model: rlxflow.Model, made: list[tuple[int, int]]) -> None:
    first = model.generate(PROMPT, max_new_tokens=8)
    assert len(made) == 1 and not spare(model).lengths.any()
    second = model.generate("a dog", max_new_tokens=8)
    again = model.generate(PROMPT, max_new_tokens=8)
    assert len(made) == 1 and (second.reused_tokens, again.reused_tokens) == (0, 0)
    assert again.token_ids == first.token_ids


@pytest.mark.parametrize("settings", [("backend.name=reference",), ("backend.name=cpu",), None])
def test_what_lies_behind_a_sequence_is_never_read(settings: tuple[str, ...] | None) -> None:
    """To the bit, and were it no number; None: caches of f16 and products of bf16, where there are any."""
    path = real_models.smollm2() if settings is None else goldens.gguf_case("llama_gqa_tied").path
    model = rlxflow.load(path, "decode" if settings is None else load_profile("exact", settings))
    assert model.max_positions is not None
    length = min(600, model.max_positions - 2)
    ids = np.random.default_rng(0).integers(3, 30, length).tolist()
    parts = [ids[: length // 2 + 1], ids[length // 2 + 1 :], [5], [6]]
    decoding = Decoding(model)
    expected = logits_of(decoding, parts)
    decoding.leave()
    for array in spare(model).arrays.values():
        array[:] = np.nan
    assert all(map(np.array_equal, logits_of(Decoding(model), parts), expected))
    assert not model.spare_caches


def ended(model: rlxflow.Model) -> None:
    model.generate(PROMPT, max_new_tokens=2)


def closed(model: rlxflow.Model) -> None:
    stream = model.generate(PROMPT, stream=True)
    next(stream)
    assert not model.spare_caches
    stream.close()


def forgotten(model: rlxflow.Model) -> None:
    next(model.generate(PROMPT, stream=True))


def failed(model: rlxflow.Model) -> None:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Sampler, "next", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        model.generate(PROMPT)


@pytest.mark.parametrize("work", [ended, closed, forgotten, failed])
def test_left_however_a_generation_ends(work: Callable[[rlxflow.Model], None], model: rlxflow.Model) -> None:
    expected = model.generate(PROMPT, max_new_tokens=8).token_ids
    kept = spare(model)
    work(model)
    assert spare(model) is kept and not kept.lengths.any()
    assert model.generate(PROMPT, max_new_tokens=8).token_ids == expected


def test_those_that_do_not_fit_are_freed(model: rlxflow.Model, made: list[tuple[int, int]]) -> None:
    model.generate(PROMPT, max_new_tokens=2)
    model.generate([PROMPT, "a dog"], max_new_tokens=2)
    assert [batch for batch, _ in made] == [1, 2] and len(spare(model).lengths) == 2
    model.generate(PROMPT, max_new_tokens=2)
    small = spare(model)
    decoding = Decoding(model)
    decoding.reserve(small.capacity + 1)
    assert not model.spare_caches and decoding._state is not small


def test_growing_frees_them_too(model: rlxflow.Model) -> None:
    growing, other = Decoding(model), Decoding(model)
    growing.feed({0: [1, 2]})
    other.feed({0: [1, 2]})
    other.leave()
    own, size = growing._state, growing.nbytes
    assert own is not None
    growing.reserve(own.capacity + 1)
    assert not model.spare_caches and growing._state is own and growing.nbytes > size


def test_large_ones_are_freed(model: rlxflow.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    decoding = Decoding(model)
    decoding.feed({0: [1]})
    monkeypatch.setattr("rlxflow.runtime.decoding.MOST_SPARE", decoding.nbytes - 1)
    decoding.leave()
    assert (decoding.nbytes, len(model.spare_caches)) == (0, 0)


def test_a_prompt_cache_keeps_its_own(model: rlxflow.Model) -> None:
    ended(model)
    kept, cache = spare(model), model.new_cache()
    model.generate(PROMPT, max_new_tokens=2, cache=cache)
    assert not model.spare_caches and cache.nbytes == sum(a.nbytes for a in kept.arrays.values())
    cache.clear()
    assert cache.nbytes == 0 and not model.spare_caches


def test_generations_at_once_never_share(model: rlxflow.Model) -> None:
    prompts = [PROMPT, "a dog", "it is in the rain"]
    expected = [model.generate(p, max_new_tokens=12).text for p in prompts]
    streams = [model.generate(p, max_new_tokens=12, stream=True) for p in prompts]
    texts, left = [""] * len(prompts), dict(enumerate(streams))
    while left:  # in turns, a piece each
        for i, stream in list(left.items()):
            piece = next(stream, None)
            texts[i] += piece or ""
            if piece is None:
                del left[i]
    assert texts == expected and len(model.spare_caches) == 1


def test_threads(model: rlxflow.Model) -> None:
    prompts = [PROMPT, "a dog", "it is", "on the mat in the rain"]
    expected = [model.generate(p, max_new_tokens=6).token_ids for p in prompts]
    found: list[list[tuple[int, ...]]] = [[] for _ in prompts]

    def work(i: int) -> None:
        for _ in range(20):
            found[i].append(model.generate(prompts[i], max_new_tokens=6).token_ids)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(prompts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[e] * 20 for e in expected] and len(model.spare_caches) == 1


def test_they_are_freed_before_the_free_memory_is_looked_at(
    model: rlxflow.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.generate([PROMPT, "a dog"], max_new_tokens=2)
    kept, seen = ref(spare(model)), []
    monkeypatch.setattr("rlxflow.runtime.decoding._UNCHECKED", 0)
    monkeypatch.setattr("rlxflow.runtime.decoding.available_memory", lambda: seen.append(kept()) or 1000)
    with pytest.raises(RlxError) as caught:
        model.generate(PROMPT)
    assert caught.value.code == "RLX-R018" and seen == [None]
