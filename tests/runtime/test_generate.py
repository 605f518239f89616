"""Writing text with a tiny random model: limits, stops, streams, cancelling and interrupts."""

from __future__ import annotations

import signal
from typing import Any

import goldens
import numpy as np
import pytest

import rlxflow
from rlxflow import Request
from rlxflow.errors import RlxError

PROMPT = "the cat"


@pytest.fixture(scope="module")
def model() -> rlxflow.Model:
    return rlxflow.load(goldens.gguf_case("llama_gqa_tied").path)


def greedy(model: rlxflow.Model, prompt: str, count: int) -> list[int]:
    """Greedy tokens, each from one call over the whole sequence."""
    ids = model.require_tokenizer().encode(prompt)
    written: list[int] = []
    for _ in range(count):
        logits = model(input_ids=[ids + written])["logits"][0, -1]
        token = int(logits.argmax())
        if token in model.require_tokenizer().stop_ids:
            break
        written.append(token)
    return written


def test_greedy_is_the_largest_logit_of_each_step(model: rlxflow.Model) -> None:
    result = model.generate(PROMPT, max_new_tokens=12)
    assert list(result.token_ids) == greedy(model, PROMPT, 12)
    assert result.text == model.require_tokenizer().decode(result.token_ids)
    assert result.prompt_tokens == len(model.require_tokenizer().encode(PROMPT))
    assert result.prefill_seconds > 0 and result.decode_seconds > 0


def test_no_new_tokens(model: rlxflow.Model) -> None:
    result = model.generate(PROMPT, max_new_tokens=0)
    assert (result.text, result.token_ids, result.finish_reason) == ("", (), "length")
    assert list(model.generate(PROMPT, max_new_tokens=0, stream=True)) == []


def test_end_tokens_end_the_text(model: rlxflow.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    free = model.generate(PROMPT, max_new_tokens=12)
    last = free.token_ids[7]
    first = free.token_ids.index(last)
    tokenizer = model.require_tokenizer()
    monkeypatch.setitem(tokenizer.__dict__, "stop_ids", frozenset((last,)))
    result = model.generate(PROMPT, max_new_tokens=12)
    assert (result.token_ids, result.finish_reason) == (free.token_ids[:first], "stop")


@pytest.mark.parametrize("many", [False, True], ids=["one-string", "several"])
def test_stop_strings_are_cut_off(many: bool, model: rlxflow.Model) -> None:
    free = model.generate(PROMPT, max_new_tokens=24).text
    stop = free[6:9]
    result = model.generate(PROMPT, max_new_tokens=24, stop=("never there", stop) if many else stop)
    assert (result.text, result.finish_reason) == (free[: free.index(stop)], "stop")
    assert len(result.token_ids) < 24


def test_stream_is_the_text_in_pieces(model: rlxflow.Model) -> None:
    result = model.generate(PROMPT, max_new_tokens=24)
    pieces = list(model.generate(PROMPT, max_new_tokens=24, stream=True))
    assert "".join(pieces) == result.text and len(pieces) > 3


def test_closing_a_stream_cancels(model: rlxflow.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    from rlxflow.runtime.decoding import Decoding

    calls: list[int] = []
    feed = Decoding.feed
    monkeypatch.setattr(Decoding, "feed", lambda *given: calls.append(1) or feed(*given))
    stream = model.generate(PROMPT, max_new_tokens=50, stream=True)
    assert not calls  # nothing is computed before the first piece is asked for
    next(stream)
    count = len(calls)
    assert 1 <= count < 10
    stream.close()
    assert list(stream) == [] and len(calls) == count


def test_R10_an_interrupt_leaves_the_model_as_it_was(
    model: rlxflow.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rlxflow.runtime.sampling import Sampler

    expected = model.generate(PROMPT, max_new_tokens=10)
    choose, steps = Sampler.next, []

    def interrupted(self: Sampler, *arguments: Any) -> int:
        steps.append(1)
        if len(steps) == 4:
            signal.raise_signal(signal.SIGINT)
        return choose(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Sampler, "next", interrupted)
        with pytest.raises(KeyboardInterrupt):
            model.generate(PROMPT, max_new_tokens=10)
    assert len(steps) == 4
    assert model.generate(PROMPT, max_new_tokens=10).token_ids == expected.token_ids


def test_the_last_position_is_a_limit(model: rlxflow.Model) -> None:
    assert model.max_positions is not None
    ids = model.require_tokenizer().encode(PROMPT)
    result = model.generate(PROMPT, max_new_tokens=10_000)
    assert len(ids) + len(result.token_ids) <= model.max_positions
    full = " the" * model.max_positions
    count = len(model.require_tokenizer().encode(full))
    with pytest.raises(RlxError) as caught:
        model.generate(full + full)
    assert caught.value.code == "RLX-R026" and "shorten" in caught.value.hint
    exact = " the" * (model.max_positions * model.max_positions // count)
    assert len(model.require_tokenizer().encode(exact)) == model.max_positions
    assert model.generate(exact).finish_reason == "length"


def test_long_prompts_are_fed_in_chunks(model: rlxflow.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    prompt = " the cat is on the mat in the rain" * 2
    expected = model.generate(prompt, max_new_tokens=6).token_ids
    monkeypatch.setattr("rlxflow.runtime.decoding.CHUNK", 5)
    assert model.generate(prompt, max_new_tokens=6).token_ids == expected


def test_seeds(model: rlxflow.Model) -> None:
    def text(seed: int | None) -> str:
        return model.generate(PROMPT, max_new_tokens=20, temperature=1.2, seed=seed).text

    assert text(7) == text(7) != text(8)
    assert len({text(None) for _ in range(4)}) > 1
    assert text(np.int64(7)) == text(7)  # type: ignore[arg-type]


def test_counts_may_be_numpy_integers(model: rlxflow.Model) -> None:
    count: Any = np.int64(5)
    assert len(model.generate(PROMPT, max_new_tokens=count).token_ids) == 5


MESSAGES = [{"role": "user", "content": "hi"}]
REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "no-prompt": ({"prompt": ""}, "RLX-R027", "some text"),
    "number": ({"prompt": 5}, "RLX-R028", "text"),
    "token-ids": ({"prompt": [5, 6]}, "RLX-R028", "model(input_ids=…)"),
    "one-message": ({"prompt": MESSAGES[0]}, "RLX-R028", "list of messages"),
    "setting-of-another-library": ({"max_tokens": 5}, "RLX-R034", "'max_new_tokens'"),
    "setting-beside-a-request": ({"prompt": Request(PROMPT)}, "RLX-R034", "Request(…, max_new_tokens=…)"),
    "setting-beside-requests": ({"prompt": [Request(PROMPT)]}, "RLX-R034", "Request(…, max_new_tokens=…)"),
    "no-cache": ({"cache": 5}, "RLX-R032", "new_cache()"),
    "no-template": ({"prompt": MESSAGES}, "RLX-T030", "plain string"),
    "half-a-surrogate": ({"prompt": "a\ud800"}, "RLX-T010", "Unicode"),
    "negative-count": ({"max_new_tokens": -1}, "RLX-R024", "0 or more"),
    "float-count": ({"max_new_tokens": 5.0}, "RLX-R024", "0 or more"),
    "array-count": ({"max_new_tokens": np.array([1, 2])}, "RLX-R024", "0 or more"),
    "array-seed": ({"seed": np.array([1, 2])}, "RLX-R030", "0 or more"),
    "bool-count": ({"max_new_tokens": True}, "RLX-R024", "0 or more"),
    "negative-temperature": ({"temperature": -0.1}, "RLX-R030", "0 or more"),
    "nan-temperature": ({"temperature": float("nan")}, "RLX-R030", "finite"),
    "top-p-zero": ({"top_p": 0.0}, "RLX-R030", "above 0"),
    "top-k-negative": ({"top_k": -1}, "RLX-R030", "0 or more"),
    "min-p": ({"min_p": 1.5}, "RLX-R030", "at most 1"),
    "penalty-zero": ({"repetition_penalty": 0.0}, "RLX-R030", "0.001"),
    "seed": ({"seed": -1}, "RLX-R030", "0 or more"),
    "empty-stop": ({"stop": ""}, "RLX-R025", "non-empty"),
    "empty-stop-among-others": ({"stop": ("a", "")}, "RLX-R025", "non-empty"),
    "number-as-stop": ({"stop": 5}, "RLX-R025", "non-empty"),
    "numbers-as-stops": ({"stop": (5,)}, "RLX-R025", "non-empty"),
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("case", REFUSED)
def test_refused_when_called(case: str, stream: bool, model: rlxflow.Model) -> None:
    """A stream raises at the call too, not at its first piece."""
    arguments, code, hint = REFUSED[case]
    with pytest.raises(RlxError) as caught:
        model.generate(**{"prompt": PROMPT, "max_new_tokens": 3, **arguments}, stream=stream)
    assert caught.value.code == code and hint in caught.value.hint and caught.value.where, caught.value


def test_logits_that_are_not_numbers(model: rlxflow.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    from rlxflow.runtime.decoding import Decoding

    monkeypatch.setattr(Decoding, "feed", lambda *given: {0: np.full((1, 113), np.nan, np.float32)})
    with pytest.raises(RlxError) as caught:
        model.generate(PROMPT)
    assert caught.value.code == "RLX-R031" and "damaged weights" in caught.value.hint
