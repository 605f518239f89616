"""Reading one line of a graph's text form: tokens, and the attribute values they spell."""

from __future__ import annotations

import re
from typing import Any

from rlxflow.dtypes import DTYPES
from rlxflow.errors import GraphError, printable
from rlxflow.ir.dims import dim

MAX_DEPTH = 32  # of nested tuples

_TOKEN = re.compile(
    r"""\s+ | (
    "(?:[^"\\]|\\["\\nrt]|\\x[0-9a-f]{2}|\\u[0-9a-f]{4}|\\U[0-9a-f]{8})*"   # string
    | x'(?:[0-9a-f]{2})*'                                                    # bytes
    | <[^<>]*>                                                               # size
    | (?:state[ ])?\w+\[[^\[\]]*\]                                           # type
    | %\d+(?:\.\d+)?                                                         # value
    | -> | [(){}=,:@]
    | [-+.!\w]+                                                              # word or number
    ) | (.)                                                                  # what cannot be read
    """,
    re.VERBOSE,
)
_WORDS = {"True": True, "False": False, "None": None}


def malformed(message: str, hint: str = "compare with a text that `rlxflow build` printed") -> GraphError:
    return GraphError(message, code="RLX-I007", hint=hint)


class Line:
    """The tokens of one line, taken one after the other; "" stands for the end."""

    def __init__(self, text: str) -> None:
        self._next = 0
        self._tokens: list[str] = []
        for token, unreadable in _TOKEN.findall(text):
            if unreadable:
                shown = text[text.index(unreadable) :].strip()
                raise malformed(f"cannot read {printable(shown, 60)!r}")
            if token:
                self._tokens.append(token)
        self._tokens.append("")

    def peek(self) -> str:
        return self._tokens[self._next]

    def take(self) -> str:
        token = self._tokens[self._next]
        self._next += token != ""
        return token

    def expect(self, *wanted: str) -> None:
        """Take these tokens, in order."""
        for token in wanted:
            found = self.take()
            if found != token:
                expected = repr(token) if token else "the end of the line"
                raise malformed(f"found {printable(found or 'the end of the line', 60)!r}, wanted {expected}")

    def skip(self, token: str) -> bool:
        """Take this token if it is the next one."""
        found = self.peek() == token
        self._next += found
        return found

    def string(self) -> str:
        token = self.take()
        if not token.startswith('"'):
            raise malformed(f"found {printable(token or 'the end of the line', 60)!r}, wanted a string")
        return _unescape(token)

    def value(self) -> Any:
        """One attribute value; nested tuples are read with an explicit stack."""
        stack: list[list[Any]] = []
        while True:
            token = self.take()
            if token == "(":
                stack.append([])
                if len(stack) > MAX_DEPTH:
                    raise malformed(f"tuples nest deeper than {MAX_DEPTH}")
                continue
            if token == ")" and stack:
                done: Any = tuple(stack.pop())
            else:
                done = _scalar(token)
            if not stack:
                return done
            stack[-1].append(done)


def _unescape(token: str) -> str:
    try:
        return token[1:-1].encode("latin-1", "backslashreplace").decode("unicode_escape")
    except UnicodeDecodeError as error:
        raise malformed(f"{printable(token, 60)} holds no valid text") from error


def _scalar(token: str) -> Any:
    try:
        if token in _WORDS:
            return _WORDS[token]
        if token.startswith('"'):
            return _unescape(token)
        if token.startswith("!"):
            return DTYPES[token[1:]]
        if token.startswith("<"):
            return dim(token[1:-1])
        if token.startswith("x'"):
            return bytes.fromhex(token[2:-1])
        return float(token) if any(c in token for c in ".einf") else int(token)
    except (ValueError, KeyError) as error:
        shown = printable(token or "the end of the line", 60)
        raise malformed(f"found {shown!r}, wanted an attribute's value") from error
