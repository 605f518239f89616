"""Every profile key, read off the model, and the way back from a wrong key to the right one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from enum import Enum
from functools import cache
from typing import Any

from rlxflow.errors import printable
from rlxflow.profile.model import CompileProfile
from rlxflow.profile.problems import Problem
from rlxflow.profile.rule_names import registered_rules
from rlxflow.profile.sections import TOKEN_LIMITS, RuleProfile, RuleSection, Section
from rlxflow.quick_dataclass import dataclass

HEADER_KEYS = ("version", "extends")  # of the file, not of the profile


@dataclass(frozen=True)
class Key:
    """One key: its dotted name, Python type, default, bounds of a number, and effect in words."""

    name: str
    type: type
    default: Any
    bounds: tuple[int, int] | None
    effect: str

    @property
    def section(self) -> str:
        return self.name.rpartition(".")[0]

    @property
    def leaf(self) -> str:
        return self.name.rpartition(".")[2]

    @property
    def choices(self) -> tuple[str, ...]:
        """The texts an enum key takes; empty for other types."""
        return tuple(str(member.value) for member in self.type) if issubclass(self.type, Enum) else ()


@cache
def keys() -> dict[str, Key]:
    """Every key by dotted name, in the order of the documentation."""
    return {key.name: key for key in _keys_of(CompileProfile)}


def find_key(name: str) -> Key | None:
    """The key of that dotted name: a documented one, or one of a rule section that names a fusion rule."""
    if name in keys():
        return keys()[name]
    section, _, rule = name.rpartition(".")
    kind = sections().get(section)
    if kind is None or not issubclass(kind, RuleSection) or rule not in registered_rules():
        return None
    if issubclass(kind, RuleProfile):
        return Key(name, bool, True, None, "A rule of an installed package.")
    return Key(name, int, None, TOKEN_LIMITS, "Largest batch·seq at which the rule applies.")


@cache
def sections() -> dict[str, type[Section]]:
    """Every section by dotted name, inner ones after the section that holds them; "" is the whole profile."""
    return {section.section: section for section in _sections_of(CompileProfile)}


def _sections_of(section: type[Section]) -> Iterator[type[Section]]:
    yield section
    for field in section.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from _sections_of(field.annotation)


def _keys_of(section: type[Section]) -> Iterator[Key]:
    for name, field in section.model_fields.items():
        kind = field.annotation
        if not isinstance(kind, type):
            raise TypeError(f"{section.__name__}.{name}: a profile key has one plain type")
        if issubclass(kind, Section):
            yield from _keys_of(kind)
            continue
        limits = {type(limit).__name__: limit for limit in field.metadata}
        bounds = (limits["Ge"].ge, limits["Le"].le) if "Ge" in limits else None
        dotted = f"{section.section}.{field.alias or name}"
        yield Key(dotted, kind, field.default, bounds, field.description or "")


def unknown_key(key: str, *, is_section: bool, where: str = "") -> Problem:
    """The problem of a key or section that does not exist, with the nearest one that does."""
    shown = printable(key, 80)
    section, _, leaf = key.rpartition(".")
    if is_section:
        message, hint = f"unknown section [{shown}]", _nearest_section(leaf)
    else:
        place = f"in [{printable(section, 80)}]" if section else "before the first section"
        message = f"unknown key '{printable(leaf, 80)}' {place}"
        hint = _nearest_key(section, leaf)
    return Problem("RLX-P003", shown, message, hint, where)


def _nearest_section(leaf: str) -> str:
    by_leaf = {name.rpartition(".")[2]: name for name in sections() if name}
    found = _closest(leaf, by_leaf)
    if found:
        return f"did you mean [{by_leaf[found]}]?"
    return "the sections are " + ", ".join(f"[{name}]" for name in by_leaf.values())


def _nearest_key(section: str, leaf: str) -> str:
    homes = [f"[{key.section}]" for key in keys().values() if key.leaf == leaf]
    if homes:
        return f"{leaf!r} belongs in " + " or ".join(homes)
    if not section and leaf in HEADER_KEYS:  # of a file; what overrides one has no such line
        return f"{leaf!r} is for files; name the profile itself, as in --profile encoder"
    here = [key.leaf for key in keys().values() if key.section == section]
    if found := _closest(leaf, here if section else HEADER_KEYS):
        return f"did you mean {found!r}?"
    section_of = {key.leaf: key.section for key in keys().values()}
    if found := _closest(leaf, section_of):
        return f"did you mean {found!r} in [{section_of[found]}]?"
    return "the keys here are " + ", ".join(here) if here else "docs/profiles.md lists every key"


def _closest(name: str, known: Iterable[str]) -> str:
    close = get_close_matches(name[:80], list(known), n=1)
    return close[0] if close else ""
