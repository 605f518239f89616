"""Messages for a chat template, checked and rebuilt from plain data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from rlxflow.errors import TokenizerError, nearest, printable
from rlxflow.runtime.tokenizer import not_unicode

MAX_CHARS = 4 << 20
_MAX_DEPTH = 32
_ROLES = ("system", "developer", "user", "assistant", "tool")


def plain_messages(messages: object, template: str) -> list[dict[str, Any]]:
    """The messages as new dicts of plain data, which is all that a template may see.

    Each has a role and a content: text, or a list of parts; it may be None beside `tool_calls` only. A role
    is one of the usual five or one that the template itself names. Raises `TokenizerError` T036.
    """
    if isinstance(messages, str | bytes | Mapping) or not isinstance(messages, Sequence):
        _refuse("messages", f"are a {type(messages).__name__}, not a list")
    if not messages:
        _refuse("messages", "are empty")
    plain = _plain_data(messages, "messages")
    for index, message in enumerate(plain):
        _check_message(message, f"messages[{index}]", template)
    return list(plain)


def plain_tools(tools: object) -> list[dict[str, Any]] | None:
    """Tool descriptions as new dicts of plain data. Raises `TokenizerError` T036."""
    if tools is None:
        return None
    plain = _plain_data(tools, "tools")
    if not isinstance(plain, list) or not all(isinstance(tool, dict) for tool in plain):
        _refuse("tools", "are not a list of dicts")
    return plain


def _plain_data(value: object, where: str) -> Any:
    """A copy of JSON-like data; dict keys must be strings. Raises `TokenizerError` T036 for anything else."""
    left = MAX_CHARS

    def copy(item: object, place: str, depth: int) -> Any:
        nonlocal left
        left -= len(item) if isinstance(item, str) else 1
        if left < 0:
            _refuse(where, f"hold more than {MAX_CHARS:,} characters")
        if depth > _MAX_DEPTH:
            _refuse(where, f"are nested deeper than {_MAX_DEPTH} levels")
        if item is None or type(item) in (bool, int):
            return item
        if type(item) is float:
            return item if math.isfinite(item) else _refuse(place, f"is {item}, which is not a JSON number")
        if isinstance(item, str):
            return _text(item, place)
        if isinstance(item, Mapping):
            return {
                _key(k, place): copy(v, f"{place}.{printable(k, 40)}", depth + 1) for k, v in item.items()
            }
        if isinstance(item, list | tuple):
            return [copy(inner, f"{place}[{index}]", depth + 1) for index, inner in enumerate(item)]
        return _refuse(place, f"is of type {type(item).__name__}, which is not plain data")

    return copy(value, where, 0)


def _check_message(message: object, place: str, template: str) -> None:
    if not isinstance(message, dict):
        _refuse(place, f"is of type {type(message).__name__}, not a dict")
    role, content = message.get("role"), message.get("content")
    if not isinstance(role, str) or not role:
        _refuse(place, "has no role" if role is None else f"has the role {printable(repr(role), 40)}")
    if role not in _ROLES and f"'{role}'" not in template and f'"{role}"' not in template:
        close = nearest(role, _ROLES)
        _refuse(place, f"has the role {printable(role, 40)!r}, which the template does not know", close)
    if content is None and not message.get("tool_calls"):
        _refuse(place, "has no content")
    if not isinstance(content, str | list | None):
        _refuse(place, f"has a content of type {type(content).__name__}")
    if isinstance(content, list) and not all(isinstance(part, dict) and "type" in part for part in content):
        _refuse(place, "has a content part that is not a dict with a type")


def _text(text: str, place: str) -> str:
    if problem := not_unicode(text):
        _refuse(place, problem)
    return str(text)


def _key(key: object, place: str) -> str:
    if not isinstance(key, str):
        _refuse(place, f"has the key {printable(repr(key), 40)}, which is not a string")
    return _text(key, place)


def _refuse(where: str, problem: str, close: str = "") -> NoReturn:
    form = 'give a list like [{"role": "user", "content": "Hello"}]'
    raise TokenizerError(
        f"{where} {problem}", code="RLX-T036", where=where, hint=f"{close} {form}" if close else form
    )
