"""Where each key of a TOML text stands, for errors that an editor can jump to."""

from __future__ import annotations

import re
from bisect import bisect_right

from rlxflow.profile.read import parse_toml

_TOKEN = re.compile(
    r'(?P<long>"""(?:\\.|[^\\])*?"{3,5}|\'\'\'.*?\'{3,5})'
    r'|(?P<string>"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\')'
    r"|(?P<bare>[A-Za-z0-9_+-]+)"
    r"|(?P<comment>#[^\n]*)"
    r"|(?P<mark>[\[\]{}=,\n])",
    re.DOTALL,
)

KeyPath = tuple[str, ...]

MAX_PARTS = 4  # the longest profile key has 3; an unknown one is reported where it leaves the known ones


def key_positions(text: str) -> dict[KeyPath, tuple[int, int]]:
    """Line and column (from 1) of the first place that names each key or table of a valid TOML text.

    Keys of more than MAX_PARTS parts are left out, so that the work is linear in the text.
    """
    scan = _Scan()
    for token in _TOKEN.finditer(text):
        kind = token.lastgroup or ""
        if kind == "mark":
            scan.mark(token.group(), token.start())
        elif kind != "comment":
            scan.word(token.group(), kind, token.start())
    breaks = [match.start() for match in re.finditer("\n", text)]
    return {path: _line_and_column(breaks, at) for path, at in scan.found.items()}


def _line_and_column(breaks: list[int], at: int) -> tuple[int, int]:
    line = bisect_right(breaks, at - 1)
    return line + 1, at - (breaks[line - 1] if line else -1)


class _Scan:
    """Follows headers, keys and brackets. The text is known to parse, so only structure is looked at."""

    def __init__(self) -> None:
        self.found: dict[KeyPath, int] = {}
        self.table: KeyPath = ()  # the table that keys are relative to
        self.parts: list[str] = []  # the key being read
        self.start = 0  # where that key begins
        self.reading_key = True
        self.in_header = False
        self.value_of: KeyPath = ()  # the key whose value is being read
        self.open: list[tuple[str, KeyPath, KeyPath]] = []  # open brackets: mark, table and value_of outside

    def word(self, word: str, kind: str, at: int) -> None:
        if not self.reading_key:
            return
        if not self.parts and not self.in_header:
            self.start = at
        self.parts.append(_unquoted(word) if kind == "string" else word)

    def mark(self, mark: str, at: int) -> None:
        if mark == "[" and self.reading_key:
            if not self.in_header:
                self.in_header, self.start = True, at
        elif mark == "]" and self.in_header:
            if self.parts:
                self.table = self._record((), self.parts)
            self.parts = []
        elif mark == "=" and self.reading_key:
            self.value_of = self._record(self.table, self.parts)
            self.reading_key = False
        elif mark in "[{":
            self.open.append((mark, self.table, self.value_of))
            if mark == "{":
                self.table, self.parts, self.reading_key = self.value_of, [], True
        elif mark in "]}":
            if self.open:
                _, self.table, self.value_of = self.open.pop()
            self.reading_key = False
        elif mark == "," and self.open and self.open[-1][0] == "{":
            self.parts, self.reading_key = [], True
        elif mark == "\n" and not self.open:
            self.parts, self.reading_key, self.in_header = [], True, False

    def _record(self, table: KeyPath, parts: list[str]) -> KeyPath:
        """Note the key and the tables it implies; returns its path, cut just above MAX_PARTS."""
        path = (*table, *parts)[: MAX_PARTS + 1]
        for end in range(len(table) + 1, min(len(path), MAX_PARTS) + 1):
            self.found.setdefault(path[:end], self.start)
        return path


def _unquoted(word: str) -> str:
    """A quoted key as the text it stands for."""
    return str(parse_toml(f"key = {word}", "")["key"]) if "\\" in word else word[1:-1]
