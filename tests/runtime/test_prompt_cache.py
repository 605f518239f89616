"""Keeping keys and values between calls: only what is new is computed, and the text is the same."""

from __future__ import annotations

import threading
from typing import Any

import goldens
import numpy as np
import pytest

import rlxflow
from rlxflow.errors import RlxError
from rlxflow.runtime.decoding import Decoding

FIRST = "the cat sat on the mat"


@pytest.fixture(scope="module")
def model() -> rlxflow.Model:
    return rlxflow.load(goldens.gguf_case("llama_gqa_tied").path)


@pytest.fixture
def fed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Tokens per call of the model."""
    counts: list[int] = []
    feed = Decoding.feed

    def counted(self: Decoding, parts: Any, every: bool = False) -> Any:
        counts.append(sum(map(len, parts.values())))
        return feed(self, parts, every)

    monkeypatch.setattr(Decoding, "feed", counted)
    return counts


def test_a_second_turn_computes_only_its_end(model: rlxflow.Model, fed: list[int]) -> None:
    cache = model.new_cache()
    first = model.generate(FIRST, max_new_tokens=8, cache=cache)
    assert (first.reused_tokens, fed[0]) == (0, first.prompt_tokens)
    assert cache.nbytes > 0
    fed.clear()
    longer = FIRST + " in the rain"
    second = model.generate(longer, max_new_tokens=8, cache=cache)
    assert second.reused_tokens >= first.prompt_tokens - 1
    assert fed[0] == second.prompt_tokens - second.reused_tokens < first.prompt_tokens
    assert second.token_ids == model.generate(longer, max_new_tokens=8).token_ids
    assert cache.token_ids[: second.prompt_tokens] == tuple(model.require_tokenizer().encode(longer))


@pytest.mark.parametrize("prompt", [FIRST, "the cat", "the cat is on", "entirely other"])
def test_any_prompt_gives_what_it_gives_alone(prompt: str, model: rlxflow.Model) -> None:
    cache = model.new_cache()
    model.generate(FIRST, max_new_tokens=8, cache=cache)
    found = model.generate(prompt, max_new_tokens=8, cache=cache)
    assert found.token_ids == model.generate(prompt, max_new_tokens=8).token_ids
    assert found.reused_tokens < found.prompt_tokens


def test_logits_after_reuse(model: rlxflow.Model) -> None:
    """The bound that the class states."""
    ids = model.require_tokenizer().encode(FIRST + " in the rain")
    decoding = Decoding(model)
    decoding.feed({0: [*ids[:7], 3, 3, 3]})
    assert decoding.reuse(0, ids) == 7
    assert np.abs(decoding.feed({0: ids[7:]})[0] - Decoding(model).feed({0: ids})[0]).max() <= 1e-5
    assert decoding.reuse(0, ids) == len(ids) - 1  # the last one is needed for its logits


def test_clear(model: rlxflow.Model) -> None:
    cache = model.new_cache()
    model.generate(FIRST, max_new_tokens=2, cache=cache)
    cache.clear()
    assert (cache.nbytes, cache.token_ids) == (0, ())
    assert model.generate(FIRST, max_new_tokens=2, cache=cache).reused_tokens == 0


def test_an_interrupt_leaves_a_usable_cache(model: rlxflow.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    from rlxflow.runtime.sampling import Sampler

    cache = model.new_cache()
    with monkeypatch.context() as patch:
        patch.setattr(Sampler, "next", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            model.generate(FIRST, cache=cache)
    again = model.generate(FIRST, max_new_tokens=8, cache=cache)
    assert again.reused_tokens == again.prompt_tokens - 1
    assert again.token_ids == model.generate(FIRST, max_new_tokens=8).token_ids


def refused(work: Any) -> RlxError:
    with pytest.raises(RlxError) as caught:
        work()
    return caught.value


def test_refused(model: rlxflow.Model) -> None:
    other = rlxflow.load(goldens.gguf_case("llama_gqa_tied").path)
    cache = model.new_cache()
    assert refused(lambda: other.generate(FIRST, cache=cache)).code == "RLX-R032"
    assert refused(lambda: model.generate([FIRST, FIRST], cache=cache)).code == "RLX-R032"  # type: ignore[call-overload]
    stream = model.generate(FIRST, cache=cache, stream=True)
    next(stream)
    in_use = refused(lambda: model.generate(FIRST, cache=cache))
    assert in_use.code == "RLX-R032" and "each thread" in in_use.hint
    stream.close()
    model.generate(FIRST, max_new_tokens=1, cache=cache)


def test_threads_with_caches_of_their_own(model: rlxflow.Model) -> None:
    prompts = ["the cat", "a dog sat", "on the mat in the rain", "it is"]
    expected = [model.generate(p, max_new_tokens=10).token_ids for p in prompts]
    found: list[list[tuple[int, ...]]] = [[] for _ in prompts]

    def work(i: int) -> None:
        cache = model.new_cache()
        for _ in range(3):
            found[i].append(model.generate(prompts[i], max_new_tokens=10, cache=cache).token_ids)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(prompts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[e] * 3 for e in expected]


def test_a_recurrent_state_is_kept_whole_or_not_at_all(
    model: rlxflow.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = model.graph.states[0].name
    monkeypatch.setattr("rlxflow.runtime.decoding.recurrent_states", lambda graph: frozenset([name]))
    monkeypatch.setattr("rlxflow.runtime.generate.recurrent_states", lambda graph: frozenset([name]))
    decoding = Decoding(model, 2)
    decoding.feed({0: [1, 2, 3], 1: [4, 5]})
    state = decoding._state
    assert state is not None
    state.recurrent = frozenset([name])
    assert decoding.reuse(0, [1, 2, 3, 4]) == 3 and decoding.tokens[0] == [1, 2, 3]
    assert decoding.reuse(0, [1, 2, 9, 4]) == 0 and decoding.tokens[0] == []
    assert not state.arrays[name][0].any() and state.arrays[name][1].any()
    assert refused(lambda: model.generate(FIRST, speculate="prompt-lookup")).code == "RLX-R033"
