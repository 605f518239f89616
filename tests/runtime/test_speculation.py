"""Prompt-lookup speculation: the same text in fewer calls of the model."""

from __future__ import annotations

from typing import Any

import goldens
import pytest

import rlxflow
from rlxflow.runtime.decoding import Decoding
from rlxflow.runtime.prompt_lookup import MOST, PromptLookup

PROMPTS = ["the cat sat on the mat. the cat sat on the mat. the cat", "a dog", "on the mat"]


@pytest.fixture(scope="module")
def model() -> rlxflow.Model:
    return rlxflow.load(goldens.gguf_case("llama_gqa_tied").path)


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize(
    "settings",
    [{}, {"temperature": 1.2, "seed": 1}, {"temperature": 0.3, "top_p": 0.9, "seed": 2}, {"stop": "e"}],
    ids=["greedy", "sampled", "nucleus", "stop"],
)
def test_the_same_text(prompt: str, settings: dict[str, Any], model: rlxflow.Model) -> None:
    plain = model.generate(prompt, max_new_tokens=40, **settings)
    found = model.generate(prompt, max_new_tokens=40, speculate="prompt-lookup", **settings)
    assert (found.token_ids, found.text, found.finish_reason) == (
        plain.token_ids,
        plain.text,
        plain.finish_reason,
    )


def test_fewer_calls_where_the_text_repeats(model: rlxflow.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    feed = Decoding.feed
    monkeypatch.setattr(
        Decoding, "feed", lambda *given: calls.append(len(given[1].get(0, ()))) or feed(*given)
    )
    plain = model.generate(PROMPTS[1], max_new_tokens=50)
    count = len(calls)
    assert count == 50
    calls.clear()
    found = model.generate(PROMPTS[1], max_new_tokens=50, speculate="prompt-lookup")
    assert found.token_ids == plain.token_ids
    assert len(calls) == 50 - found.accepted_tokens < 45
    assert 0 < found.accepted_tokens <= found.drafted_tokens
    assert max(calls[1:]) <= 1 + MOST


def test_several_at_once(model: rlxflow.Model) -> None:
    alone = [model.generate(p, max_new_tokens=30, speculate="prompt-lookup") for p in PROMPTS]
    found = model.generate(PROMPTS, max_new_tokens=30, speculate="prompt-lookup")
    assert [(g.token_ids, g.accepted_tokens) for g in found] == [
        (g.token_ids, g.accepted_tokens) for g in alone
    ]


def test_with_a_cache_and_to_the_last_position(model: rlxflow.Model) -> None:
    assert model.max_positions is not None
    cache = model.new_cache()
    for _ in range(2):
        plain = model.generate(PROMPTS[0], max_new_tokens=10_000)
        found = model.generate(PROMPTS[0], max_new_tokens=10_000, speculate="prompt-lookup", cache=cache)
        assert found.token_ids == plain.token_ids
    assert len(cache.token_ids) <= model.max_positions
    written = (*model.require_tokenizer().encode(PROMPTS[0]), *found.token_ids)
    assert cache.token_ids == written[: len(cache.token_ids)]  # no wrong guess stays


def test_drafts() -> None:
    lookup = PromptLookup()
    assert lookup.draft([1, 2, 3], 9) == []
    assert lookup.draft([1, 2, 3, 4, 5, 1, 2, 3], 9) == [4, 5, 1]
    lookup.learn(3)
    assert lookup.draft([1, 2, 3, 4, 5, 1, 2, 3, 4, 5], 9) == [1, 2, 3, 4, 5]
    assert lookup.draft([1, 2, 3, 4, 5, 1, 2, 3, 4, 5], 2) == [1, 2]
    assert lookup.draft([1, 2, 3, 4, 5, 1, 2, 3, 4, 5], 0) == []
    lookup.learn(0)
    assert lookup.draft([1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 9, 9, 4, 5], 9) == [9]  # the latest place, two tokens


def test_drafting_costs_the_same_at_every_length() -> None:
    import effort

    def cost(length: int) -> int:
        ids = [i % 97 for i in range(length)]
        lookup = PromptLookup()
        lookup.draft(ids, 5)
        ids.append(1)
        return effort.calls_of(lambda: lookup.draft(ids, 5))

    assert cost(50_000) <= cost(500) + 5
