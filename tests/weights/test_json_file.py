"""Strict JSON: what Python's parser lets through is refused, with a place."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from rlxflow.errors import ConfigError, CorruptFile, RlxError, TokenizerError, WeightsError
from rlxflow.weights.json_file import parse_json, read_json

# id: (text, part of the message, end of the place)
BAD: dict[str, tuple[bytes, str, str]] = {
    "empty": (b"", "is empty", "x.json"),
    "blank": (b" \n", "is empty", "x.json"),
    "not-utf-8": (b'{"a": "\xff"}', "is not UTF-8", ":byte 7"),
    "utf-16": ('{"a": 1}'.encode("utf-16"), "is not UTF-8", ":byte 0"),
    "not-json": (b'{\n "a": x}', "is not JSON", ":2:7"),
    "cut": (b'{"a": [1, 2', "is not JSON", ":1:12"),
    "trailing": (b"{} {}", "is not JSON", ":1:4"),
    "comment": (b"// a\n{}", "is not JSON", ":1:1"),
    "trailing-comma": (b"[1,]", "is not JSON", ":1:4"),
    "tab-in-string": (b'"a\tb"', "is not JSON", ":1:3"),
    "duplicate": (b'{"a": {"b": 1, "b": 1}}', "the key 'b' twice", "x.json"),
    "duplicate-escaped": (b'{"a": 1, "\\u0061": 2}', "the key 'a' twice", "x.json"),
    "NaN": (b"[NaN]", "holds NaN", "x.json"),
    "infinity": (b"[-Infinity]", "holds -Infinity", "x.json"),
    "1e400": (b"[1e400]", "holds 1e400", "x.json"),
    "minus-1e400": (b"[-1e400]", "holds -1e400", "x.json"),
    "5000-digits": (b"9" * 5000, "an integer of 5,000 digits", "x.json"),
    "65-digits": (b"9" * 65, "an integer of 65 digits", "x.json"),
    "65-deep": (b"[" * 65 + b"]" * 65, "nested deeper than 64", "x.json"),
    "65-deep-objects": (b'{"a":' * 65 + b"1" + b"}" * 65, "nested deeper than 64", "x.json"),
    "100000-deep": (b"[" * 100_000 + b"]" * 100_000, "nested deeper than 64", "x.json"),
    "100000-open": (b'{"a":' * 100_000, "nested deeper than 64", "x.json"),
    "lone-surrogate": (b'["\\ud800"]', "half of a surrogate pair", "x.json"),
    "lone-surrogate-key": (b'{"\\uDFFF": 1}', "half of a surrogate pair", "x.json"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_json(case: str) -> None:
    text, message, place = BAD[case]
    with pytest.raises(CorruptFile) as caught:
        parse_json(text, "x.json", what="thing")
    assert message in caught.value.message and caught.value.message.startswith("the thing ")
    assert caught.value.where.endswith(place) and caught.value.where.startswith("x.json")
    assert caught.value.code == "RLX-W013" and caught.value.hint


GOOD: dict[str, tuple[bytes, Any]] = {
    "object": (b'{"a": [1, 2.5, null, true, "x"]}', {"a": [1, 2.5, None, True, "x"]}),
    "byte-order-mark": (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
    "crlf": (b'{\r\n"a":\t1}\r\n', {"a": 1}),
    "30-digits": (b"1000000000000000019884624838656", 1000000000000000019884624838656),
    "64-deep": (b"[" * 64 + b"]" * 64, ...),
    "surrogate-pair": (b'"\\ud83d\\ude00"', "\U0001f600"),
    "NUL-in-string": (b'"a\\u0000b"', "a\0b"),
    "smallest": (b"[1e-400, 1e308]", [0.0, 1e308]),
}


@pytest.mark.parametrize("case", GOOD)
def test_good_json(case: str) -> None:
    text, value = GOOD[case]
    found = parse_json(text, "x.json", what="thing")
    assert value is ... or found == value


def test_the_caller_chooses_the_error(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text("{")
    with pytest.raises(ConfigError) as caught:
        read_json(path, what="config", error=ConfigError, code="RLX-C024")
    assert type(caught.value) is ConfigError and caught.value.code == "RLX-C024"
    assert caught.value.where == f"{path}:1:2"


@pytest.mark.parametrize("kind", ["absent", "directory", "fifo", "large"])
@pytest.mark.parametrize("error", [ConfigError, TokenizerError, CorruptFile])
def test_files_that_cannot_be_read(kind: str, error: type[RlxError], tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "large":
        with path.open("wb") as file:
            file.truncate(1 << 40)  # sparse; must not be read
    with pytest.raises(error) as caught:
        read_json(path, what="thing", error=error, code="RLX-C024")
    assert type(caught.value) is error and caught.value.hint
    assert str(path)[:50] in caught.value.where
    if kind == "large":
        assert "1,099,511,627,776 bytes, more than the limit of 67,108,864" in caught.value.message


def test_every_prefix_is_refused() -> None:
    text = '{"a": [1, 2.5, {"b": "é"}], "c": null}'.encode()
    for size in range(len(text)):
        with pytest.raises(WeightsError):
            parse_json(text[:size], "x.json", what="thing")
