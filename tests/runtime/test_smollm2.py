"""SmolLM2-135M-Instruct from its real GGUF file, against Hugging Face's GGUF loader and llama.cpp."""

from __future__ import annotations

import goldens
import numpy as np
import pytest
import real_models

import rlxflow
from rlxflow.profile.load import load_profile

MAX_ABS = 1e-3
PROMPTS = goldens.smollm2_prompts()


def load(backend: str) -> rlxflow.Model:
    return rlxflow.load(real_models.smollm2(), load_profile("exact", [f"backend.name={backend}"]))


@pytest.fixture(scope="module")
def model() -> rlxflow.Model:
    return load("cpu")


@pytest.fixture(scope="module")
def reference() -> rlxflow.Model:
    return load("reference")


def logits_of(model: rlxflow.Model) -> list[np.ndarray]:
    """Per prompt the logits at every position of prompt and continuation, from one call each."""
    return [model(input_ids=[p.ids + p.greedy[:-1]])["logits"][0] for p in PROMPTS]


@pytest.fixture(scope="module")
def logits(model: rlxflow.Model) -> list[np.ndarray]:
    return logits_of(model)


@pytest.fixture(scope="module")
def reference_logits(reference: rlxflow.Model) -> list[np.ndarray]:
    return logits_of(reference)


@pytest.mark.parametrize("backend", ["logits", "reference_logits"])
@pytest.mark.parametrize("index", range(len(PROMPTS)))
def test_logits_agree_with_hugging_face(index: int, backend: str, request: pytest.FixtureRequest) -> None:
    logits = request.getfixturevalue(backend)
    prompt, found = PROMPTS[index], logits[index]
    top = np.take_along_axis(found, prompt.top_ids.astype(np.int64), axis=1)
    assert np.abs(top - prompt.top_logits).max() <= MAX_ABS
    if prompt.logits is not None:
        assert np.abs(found[len(prompt.ids) - 1] - prompt.logits).max() <= MAX_ABS


@pytest.mark.parametrize("index", range(len(PROMPTS)))
def test_greedy_text(index: int, model: rlxflow.Model, logits: list[np.ndarray]) -> None:
    greedy(index, model, logits)


def test_greedy_text_on_the_reference(reference: rlxflow.Model, reference_logits: list[np.ndarray]) -> None:
    greedy(8, reference, reference_logits)


def greedy(index: int, model: rlxflow.Model, logits: list[np.ndarray]) -> None:
    """The same 64 tokens; or where they part, the two best logits are nearer than twice our error."""
    prompt = PROMPTS[index]
    result = model.generate(prompt.text if prompt.messages is None else prompt.messages, max_new_tokens=64)
    assert result.prompt_tokens == len(prompt.ids)
    written = list(result.token_ids)
    expected = prompt.greedy[:-1] if index == 8 else prompt.greedy
    assert result.finish_reason == ("stop" if index == 8 else "length")
    if written == expected:
        assert result.text == prompt.completion.removesuffix("<|im_end|>")
        return
    step = next(i for i, (a, b) in enumerate(zip(written, prompt.greedy, strict=False)) if a != b)
    top = np.take_along_axis(logits[index], prompt.top_ids.astype(np.int64), axis=1)
    error = float(np.abs(top - prompt.top_logits).max())
    print(f"prompt {index} parts at step {step}: gap {prompt.gaps[step]:.2e}, logit error {error:.2e}")
    assert prompt.gaps[step] < 2 * error


def test_decoding_agrees_with_the_whole_text_at_once(model: rlxflow.Model, logits: list[np.ndarray]) -> None:
    from rlxflow.runtime.decoding import Decoding

    prompt = PROMPTS[0]
    decoding = Decoding(model)
    start = len(prompt.ids)
    found = [decoding.feed({0: part})[0][0] for part in (prompt.ids, *([t] for t in prompt.greedy[:15]))]
    expected = logits[0][start - 1 : start + 15]
    assert goldens.error(np.stack(found), expected) <= 1e-5


def test_prompt_ids(model: rlxflow.Model) -> None:
    from rlxflow.runtime.request import prompt_ids

    for prompt in PROMPTS:
        given = prompt.text if prompt.messages is None else prompt.messages
        assert prompt_ids(model, model.require_tokenizer(), given) == prompt.ids


def test_both_end_tokens_stop(model: rlxflow.Model) -> None:
    """<|im_end|> ends a turn (eos of the file), <|endoftext|> a document."""
    tokenizer = model.require_tokenizer()
    assert {tokenizer.token_to_id("<|im_end|>"), tokenizer.eos_id} <= tokenizer.stop_ids


def test_stream_and_text_are_the_same(model: rlxflow.Model) -> None:
    messages = [{"role": "user", "content": "Write one sentence about the sea, with an emoji."}]
    pieces = list(model.generate(messages, max_new_tokens=24, stream=True))
    assert len(pieces) > 5 and all(pieces)
    assert "".join(pieces) == model.generate(messages, max_new_tokens=24).text


def test_seeds(model: rlxflow.Model) -> None:
    settings = {"max_new_tokens": 8, "temperature": 1.5, "top_p": 0.95}
    first, again, other = (model.generate("The sea", seed=seed, **settings).text for seed in (1, 1, 2))
    assert first == again != other
