"""Several prompts at once: each result is what its prompt gives alone."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import rlxflow
from rlxflow import Request
from rlxflow.backends.base import CacheState
from rlxflow.errors import RlxError
from rlxflow.runtime.decoding import Decoding, chunks

PROMPTS = ["the cat", "a dog sat on the mat in the rain", "it", "on the mat " * 3, "cat"]


def requests() -> list[Request]:
    """Different lengths, samplings and stops."""
    return [
        Request(PROMPTS[0], 12),
        Request(PROMPTS[1], 5, temperature=1.1, seed=3),
        Request(PROMPTS[2], 20, temperature=0.8, top_k=9, seed=4, stop=("e", "t")),
        Request(PROMPTS[3], 0),
        Request(PROMPTS[4], 9, repetition_penalty=1.4, stop="zzz"),
    ]


def alone(model: rlxflow.Model, request: Request) -> tuple[Any, ...]:
    return told(model.generate(request))


def told(done: rlxflow.Generation) -> tuple[Any, ...]:
    return done.text, done.token_ids, done.finish_reason, done.prompt_tokens


@pytest.mark.parametrize("slots", [1, 2, 16])
def test_each_as_alone(slots: int, model: rlxflow.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [alone(model, request) for request in requests()]
    monkeypatch.setattr("rlxflow.runtime.generate.MAX_SLOTS", slots)
    assert [told(done) for done in model.generate(requests())] == expected


def test_logits_have_the_same_bits_in_company(model: rlxflow.Model) -> None:
    """Of different lengths, with a free slot between them, over several calls."""
    tokenizer = model.require_tokenizer()
    together = Decoding(model, 4)
    rows = {slot: tokenizer.encode(PROMPTS[i]) for i, slot in enumerate((0, 2, 3))}
    for slot, found in together.feed(rows).items():
        single = Decoding(model)
        assert (single.feed({0: rows[slot]})[0] == found).all()
        for step in ([5], [7, 8, 9]):
            part = {s: step if s == slot else [1] for s in rows}
            assert (single.feed({0: step}, True)[0] == together.feed(part, True)[slot]).all()
        together = Decoding(model, 4)
        together.feed(rows)


def test_settings_are_for_all(model: rlxflow.Model) -> None:
    settings: dict[str, Any] = {"max_new_tokens": 6, "temperature": 1.0, "seed": 5}
    expected = [told(model.generate(prompt, **settings)) for prompt in PROMPTS]
    assert [told(done) for done in model.generate(PROMPTS, **settings)] == expected


def test_a_stream_tells_which(model: rlxflow.Model) -> None:
    stream = model.generate(requests(), stream=True)
    texts = [""] * len(PROMPTS)
    order = []
    for number, piece in stream:
        texts[number] += piece
        order.append(number)
    expected = [alone(model, request) for request in requests()]
    assert texts == [e[0] for e in expected]
    assert [told(done) for done in stream.generations] == expected
    assert order != sorted(order)  # they are written side by side


def test_a_bad_request_stops_all_before_anything_runs(
    model: rlxflow.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Decoding, "feed", lambda *_: pytest.fail("computed"))
    for bad, code in ((Request("x", -1), "RLX-R024"), (Request(""), "RLX-R027"), (Request(5), "RLX-R028")):  # type: ignore[arg-type]
        with pytest.raises(RlxError) as caught:
            model.generate([Request("the"), bad], stream=True)
        assert caught.value.code == code
    with pytest.raises(RlxError) as caught:
        model.generate(["the", 5])  # type: ignore[list-item]
    assert caught.value.code == "RLX-R028"


def test_chunks() -> None:
    """Long parts are cut at the same places whatever is beside them, and no call is larger than a chunk."""
    parts = {0: range(1300), 1: range(3), 3: range(512), 4: range(600)}
    calls = list(chunks(parts))
    assert all(sum(map(len, call.values())) <= 512 for call in calls)
    for slot, ids in parts.items():
        pieces = [list(call[slot]) for call in calls if slot in call]
        assert [i for piece in pieces for i in piece] == list(ids)
        assert [len(p) for p in pieces] == [len(next(iter(c.values()))) for c in chunks({0: ids})]
    assert list(chunks({})) == []


def test_cancelled_from_another_thread(model: rlxflow.Model) -> None:
    stream = model.generate("the cat", max_new_tokens=10_000, stream=True)
    first = next(stream)
    thread = threading.Thread(target=stream.close)
    thread.start()
    thread.join()
    assert list(stream) == []
    (done,) = stream.generations
    assert (done.finish_reason, done.text) == ("cancelled", first)


def test_cancelled_between_the_chunks_of_a_prompt(
    model: rlxflow.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rlxflow.runtime.generate import Run

    monkeypatch.setattr("rlxflow.runtime.decoding.CHUNK", 4)
    run = Run(model, [Request(PROMPTS[3])], None, None)
    feed, fed = Decoding.feed, []

    def counted(*given: Any) -> Any:
        fed.append(1)
        run.cancel()
        return feed(*given)

    monkeypatch.setattr(Decoding, "feed", counted)
    assert run.finish()[0].finish_reason == "cancelled" and len(fed) == 1


def test_caches_that_do_not_fit(model: rlxflow.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlxflow.runtime.decoding._UNCHECKED", 0)
    monkeypatch.setattr("rlxflow.runtime.decoding.available_memory", lambda: 1000)
    with pytest.raises(RlxError) as caught:
        model.generate("the cat")
    assert caught.value.code == "RLX-R018" and "kv_cache" in caught.value.hint


def test_caches_grow_by_a_quarter_to_the_last_position(
    model: rlxflow.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert model.max_positions is not None
    monkeypatch.setattr("rlxflow.runtime.decoding.FIRST_ROOM", 4)
    decoding, sizes = Decoding(model), []
    for _ in range(model.max_positions):
        decoding.feed({0: [1]})
        sizes.append(decoding.nbytes)
    per_token = sizes[0] // 4
    grown = [size // per_token for i, size in enumerate(sizes) if i == 0 or size != sizes[i - 1]]
    assert grown[:4] == [4, 5, 7, 9] and grown[-1] == model.max_positions
    decoding.clear()
    assert decoding.nbytes == 0 and decoding.tokens == [[]]


@pytest.mark.parametrize(("new", "foreseen"), [(2, 256), (40, 256), (40, 1)])
def test_caches_have_room_at_once_for_a_prompt_and_what_may_be_written(
    new: int, foreseen: int, model: rlxflow.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rlxflow.runtime.decoding.FIRST_ROOM", 4)
    monkeypatch.setattr("rlxflow.runtime.decoding.CHUNK", 3)
    monkeypatch.setattr("rlxflow.runtime.continuation.FORESEEN", foreseen)
    rooms, room = [], Decoding._room

    def noted(decoding: Decoding, needed: int) -> CacheState:
        state = room(decoding, needed)
        rooms.append(state.capacity)
        return state

    monkeypatch.setattr(Decoding, "_room", noted)
    done = model.generate(PROMPTS[1], max_new_tokens=new)
    wanted = done.prompt_tokens + min(new, max(done.prompt_tokens, foreseen))
    assert len(rooms) > 4 and rooms[0] == wanted
    assert (max(rooms) > wanted) == (done.prompt_tokens + new > wanted)
