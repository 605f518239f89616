"""Settings from outside a file: `section.key=value` texts and environment variables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from rlxflow.errors import ProfileError, printable
from rlxflow.profile.keys import Key, find_key, keys, sections, unknown_key
from rlxflow.profile.origins import Origin, OriginKind, Setting, Settings
from rlxflow.profile.problems import profile_error, section_problem
from rlxflow.profile.sections import ATTENTION_THRESHOLD_VARIABLE


def override_settings(overrides: Iterable[str]) -> Settings:
    """Settings from `section.key=value` texts; a later one wins.

    Raises ProfileError: RLX-P009 (no `=`, no key), RLX-P003 (unknown key), RLX-P004 (a section, not a key).
    """
    settings: Settings = {}
    for text in overrides:
        where = f"--set {printable(text, 80)}"
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not name:
            raise ProfileError(
                f"'{printable(text, 80)}' is not section.key=value",
                code="RLX-P009",
                where=where,
                hint="for example fusion.policy=fusable",
            )
        if name in sections():
            raise profile_error([section_problem(name, value, where)])
        key = find_key(name)
        if key is None:
            raise profile_error([unknown_key(name, is_section=False, where=where)])
        settings[name] = Setting(_value(key, value), Origin(OriginKind.OVERRIDE, where))
    return settings


def environment_settings(environment: Mapping[str, str]) -> Settings:
    """Settings from the variables that rlxflow honours; an empty variable counts as not set."""
    text = environment.get(ATTENTION_THRESHOLD_VARIABLE, "").strip()
    if not text:
        return {}
    key = keys()["fusion.attention_threshold"]
    origin = Origin(OriginKind.ENVIRONMENT, ATTENTION_THRESHOLD_VARIABLE)
    return {key.name: Setting(_value(key, text), origin)}


def _value(key: Key, text: str) -> Any:
    """The text as the key's type where it is one; else the text itself, which validation then refuses."""
    if key.type is bool:
        return {"true": True, "false": False}.get(text, text)
    if key.type is int:
        return int(text) if re.fullmatch(r"[+-]?[0-9]{1,18}", text) else text
    if key.type is float:
        return float(text) if re.fullmatch(r"[0-9]{1,18}(\.[0-9]{1,18})?(e-?[0-9]{1,2})?", text) else text
    return text.strip("\"'")
