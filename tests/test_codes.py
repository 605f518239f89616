"""The table of error codes and the codes that the source raises are the same."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import pytest

from rlxflow.codes import CODES

ROOT = Path(__file__).parent.parent
LETTERS = "WCTPFIUBRX"
SOURCES = [p for folder in ("rlxflow", "recipes") for p in sorted((ROOT / folder).rglob("*.py"))]


def used() -> dict[str, set[str]]:
    """Code → files of the package that name it."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in SOURCES:
        if path.name != "codes.py":
            # some modules raise through a helper that adds the prefix: _fail("T033", …)
            for code in re.findall(rf'RLX-([A-Z]\d{{3}})|"([{LETTERS}]\d{{3}})"', path.read_text("utf-8")):
                found["RLX-" + "".join(code)].add(str(path.relative_to(ROOT)))
    return found


def test_every_code_that_is_raised_is_listed() -> None:
    unlisted = {code: sorted(files) for code, files in used().items() if code not in CODES}
    assert unlisted == {}


def test_every_code_that_is_listed_is_raised() -> None:
    assert sorted(set(CODES) - set(used())) == []


@pytest.mark.parametrize("code", CODES)
def test_form(code: str) -> None:
    meaning = CODES[code]
    assert re.fullmatch(rf"RLX-[{LETTERS}]\d{{3}}", code)
    assert meaning and "\n" not in meaning and meaning[-1] not in ". " and len(meaning) <= 110


def test_order() -> None:
    letters = [code[4] for code in CODES]
    assert "".join(dict.fromkeys(letters)) == "".join(c for c in LETTERS if c in letters)
    for letter in LETTERS:
        numbers = [code for code in CODES if code[4] == letter]
        assert numbers == sorted(numbers)
