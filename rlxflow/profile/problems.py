"""Profile mistakes as data, and the one place that turns them into a `ProfileError`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rlxflow.errors import ProfileError, nearest, printable
from rlxflow.quick_dataclass import dataclass

if TYPE_CHECKING:
    from pydantic import ValidationError

LONGEST_NUMBER = 19  # digits, from which on it may not fit 64 bits


@dataclass(frozen=True)
class Problem:
    """One mistake: error code, dotted key, one line, the next step, and the place if known."""

    code: str
    key: str
    message: str
    hint: str
    where: str = ""


def profile_error(problems: Sequence[Problem], places: Mapping[str, str] | None = None) -> ProfileError:
    """The error for one or more problems; `places` maps dotted keys to `file:line:col`.

    The first problem gives code, line and hint; `details["problems"]` has all of them.
    """
    placed = [_place(problem, places or {}) for problem in problems]
    first = placed[0]
    more = f" (and {len(placed) - 1} more)" if len(placed) > 1 else ""
    return ProfileError(
        first.message + more,
        code=first.code,
        where=first.where,
        hint=first.hint,
        details={"problems": [_as_dict(problem) for problem in placed]},
    )


def problems_of(error: ProfileError) -> list[Problem]:
    """The problems that `profile_error` put into an error."""
    return [Problem(**entry) for entry in error.details["problems"]]


def _place(problem: Problem, places: Mapping[str, str]) -> Problem:
    where = problem.where or places.get(problem.key, "")
    return Problem(problem.code, problem.key, problem.message, problem.hint, where)


def _as_dict(problem: Problem) -> dict[str, str]:
    names = ("code", "key", "message", "hint", "where")
    return {name: getattr(problem, name) for name in names}


def value_problems(section: str, error: ValidationError) -> list[Problem]:
    """What pydantic found wrong with the values of one section, in a profile author's words."""
    found = []
    for entry in error.errors(include_url=False):
        name = ".".join(str(part) for part in entry["loc"])
        key = f"{section}.{name}" if section else name
        found.append(_value_problem(printable(key, 80), entry["type"], entry["input"], entry.get("ctx", {})))
    return found


def _value_problem(key: str, kind: str, value: Any, context: Mapping[str, Any]) -> Problem:
    if kind == "extra_forbidden":
        return Problem("RLX-P003", key, f"unknown key '{key}'", "docs/profiles.md lists every key")
    if kind == "model_type":
        return section_problem(key, value)
    given = shown(value)
    bare = value.strip() if isinstance(value, str) else ""
    if kind == "bool_type":
        quoted = f"write {bare.lower()} without quotes" if bare.lower() in ("true", "false") else ""
        return Problem(
            "RLX-P004", key, f"{key} is true or false, not {given}", quoted or "write true or false"
        )
    if kind == "enum":
        names = [name.strip("' ") for name in context["expected"].replace(" or ", ", ").split(", ")]
        near = nearest(bare.lower(), names) if bare else ""
        listed = "one of " + ", ".join(names)
        return Problem("RLX-P004", key, f"{key} is {listed}, not {given}", near or f"write {listed}")
    if "le" in context or "ge" in context:
        bound = f"at most {context['le']}" if "le" in context else f"at least {context['ge']}"
        return Problem("RLX-P004", key, f"{key} is {bound}, not {given}", f"write a number of {bound}")
    if kind in ("float_type", "finite_number"):
        return Problem("RLX-P004", key, f"{key} is a number, not {given}", "write a number, such as 0.99")
    hint = "write a whole number"
    if bare.isascii() and bare.isdigit():
        hint = f"write {bare} without quotes" if len(bare) < LONGEST_NUMBER else "write a smaller number"
    if isinstance(value, float) and value.is_integer():
        hint = f"write {value:.0f}"
    return Problem("RLX-P004", key, f"{key} is a whole number, not {given}", hint)


def section_problem(key: str, value: object, where: str = "") -> Problem:
    """The problem of a section that was given a plain value."""
    message = f"{key} is a section, not {shown(value)}"
    return Problem("RLX-P004", key, message, f"set one of its keys, written under [{key}]", where)


def shown(value: object) -> str:
    """A value from a file as it may stand in a message: short, on one line, never recursing into it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"the text '{printable(value, 60)}'"
    if isinstance(value, int):
        bits = value.bit_length()
        return str(value) if bits <= 64 else f"an integer of {bits} bits"
    if isinstance(value, float):
        return f"{value:g}" if not value.is_integer() or abs(value) >= 1e15 else f"{value:.1f}"
    if isinstance(value, dict | list):
        return "a table" if isinstance(value, dict) else "a list"
    return f"a {type(value).__name__}"
