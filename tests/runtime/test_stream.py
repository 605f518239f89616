"""Streaming text: joined pieces are the whole text, characters are never cut, stop strings are found."""

from __future__ import annotations

from functools import cache, partial

import pytest
from effort import calls_of
from hypothesis import given, settings, strategies as st
from real_models import minilm
from text_models import gguf_keys, smollm2_metadata, stored

from rlxflow.runtime.gguf_tokenizer import tokenizer_from_gguf
from rlxflow.runtime.stream import TextStream
from rlxflow.runtime.tokenizer import Tokenizer


@cache
def tokenizer(name: str) -> Tokenizer:
    if name == "spm":
        return tokenizer_from_gguf(gguf_keys(stored("tokenizer_spm")["keys"]))
    if name == "bert":
        return Tokenizer.from_file(minilm() / "tokenizer.json")
    return tokenizer_from_gguf(smollm2_metadata())


@cache
def single_bytes(name: str) -> list[int]:
    """Ids of tokens that are one byte or one character: most of their sequences are not UTF-8."""
    found = tokenizer(name)
    tokens = [(i, found.id_to_token(i) or "") for i in range(found.vocab_size)]
    return [i for i, token in tokens if len(token) == 1 or token.startswith("<0x")]


def pieces(name: str, ids: list[int], stop: tuple[str, ...] = ()) -> list[str]:
    stream = TextStream(tokenizer(name), stop)
    return [*(stream.push(token_id) for token_id in ids), stream.finish()]


@pytest.mark.parametrize("name", ["smollm2", "spm", "bert"])
def test_joined_pieces_of_real_texts(name: str) -> None:
    found = tokenizer(name)
    for text in stored("tokenizer_spm")["texts"]:
        ids = found.encode(text)
        assert "".join(pieces(name, ids)) == found.decode(ids), text


@pytest.mark.parametrize("name", ["smollm2", "spm", "bert"])
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_joined_pieces_of_any_ids(name: str, data: st.DataObject) -> None:
    found = tokenizer(name)
    any_id = st.one_of(st.sampled_from(single_bytes(name)), st.integers(0, found.vocab_size + 3))
    ids = data.draw(st.lists(any_id, max_size=25))
    assert "".join(pieces(name, ids)) == found.decode(ids)


@pytest.mark.parametrize("name", ["smollm2", "spm"])
def test_characters_come_whole(name: str) -> None:
    found = tokenizer(name)
    text = "a😀b 👍🏽 中文한국어 𒀀 é\u0351"
    ids = found.encode(text, add_special_tokens=False)
    parts = pieces(name, ids)
    assert "".join(parts) == text
    assert not any("\ufffd" in part for part in parts)
    assert parts[0] != ""  # nothing is held without need


def test_text_comes_with_the_token_that_completes_it() -> None:
    found = tokenizer("smollm2")
    ids = found.encode("Hello world, again")
    assert pieces("smollm2", ids) == ["Hello", " world", ",", " again", ""]


def test_unfinished_bytes_come_at_the_end_as_replacement_characters() -> None:
    found = tokenizer("smollm2")
    ids = found.encode("é")[:1] if len(found.encode("é")) > 1 else found.encode("𒀀")[:2]
    assert pieces("smollm2", ids)[:-1] == [""] * len(ids)
    assert pieces("smollm2", ids)[-1] == "\ufffd"


def test_special_tokens_add_nothing_and_do_not_flush() -> None:
    found = tokenizer("smollm2")
    first, *rest = found.encode("𒀀")
    ids = [first, 2, *rest, 1]
    assert "".join(pieces("smollm2", ids)) == "𒀀"


def cut(text: str, stop: tuple[str, ...]) -> str:
    starts = [text.find(s) for s in stop if s in text]
    return text[: min(starts)] if starts else text


@pytest.mark.parametrize(
    ("text", "stop", "shown"),
    [
        ("one two three", ("two",), "one "),
        ("one two three", ("o t",), "one tw"),
        ("one two three", ("three", "two"), "one "),
        ("one two three", ("threes",), "one two three"),
        ("one two three", ("one",), ""),
        ("one two thr", ("three",), "one two thr"),
        ("a##b###c", ("###",), "a##b"),
        ("aaab", ("aab",), "a"),
        ("x 😀 y", ("😀",), "x "),
        ("User: hi\nUser:", ("\nUser:",), "User: hi"),
    ],
)
def test_stop_strings_cross_token_borders(text: str, stop: tuple[str, ...], shown: str) -> None:
    ids = tokenizer("smollm2").encode(text)
    stream = TextStream(tokenizer("smollm2"), stop)
    out = "".join(stream.push(token_id) for token_id in ids) + stream.finish()
    assert out == shown == cut(text, stop)
    assert stream.stopped == any(s in text for s in stop)
    assert (stream.push(ids[0]), stream.finish()) == ("", "") or not stream.stopped


@given(
    text=st.text("ab \n#", max_size=30),
    stop=st.lists(st.text("ab \n#", min_size=1, max_size=5), max_size=3).map(tuple),
)
@settings(max_examples=200, deadline=None)
def test_the_text_ends_before_the_first_stop_string(text: str, stop: tuple[str, ...]) -> None:
    found = tokenizer("smollm2")
    stream = TextStream(found, stop)
    seen: list[int] = []
    out = ""
    for token_id in found.encode(text):
        seen.append(token_id)
        out += stream.push(token_id)
        if stream.stopped:
            break
        assert not any(s in out for s in stop)
    out += stream.finish()
    assert out == cut(found.decode(seen), stop)


def test_work_per_token_does_not_grow() -> None:
    found = tokenizer("smollm2")
    invalid = found.encode("𒀀")[:1]
    for ids in (found.encode("word and ") * 50, invalid * 150):
        stream = TextStream(found, ("never this",))

        def push(ids: list[int], stream: TextStream = stream) -> None:
            for token_id in ids:
                stream.push(token_id)

        first = calls_of(partial(push, ids))
        push(ids * 20)
        assert calls_of(partial(push, ids)) <= 1.5 * first
