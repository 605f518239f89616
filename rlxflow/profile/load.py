"""From a name, a path or text to a validated CompileProfile that knows where each value came from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from os import PathLike, environ
from pathlib import Path
from typing import Any

from rlxflow.errors import ProfileError
from rlxflow.profile.document import Document
from rlxflow.profile.keys import sections
from rlxflow.profile.model import CompileProfile
from rlxflow.profile.origins import OriginKind, Setting, Settings
from rlxflow.profile.overrides import environment_settings, override_settings
from rlxflow.profile.problems import Problem, problems_of, profile_error

MAX_EXTENDS = 8


def load_profile(
    profile: str | PathLike[str] | CompileProfile,
    overrides: Iterable[str] = (),
    *,
    environment: Mapping[str, str] | None = None,
) -> CompileProfile:
    """The profile that a user means, with every layer applied, weakest first.

    defaults < extended files < the file < environment (`RLX_FUSE_ATTN_THRESHOLD`) < overrides
    (`section.key=value`). A text that ends in `.toml` or holds a path separator is a path; any other text is
    a preset's name. `environment` stands in for os.environ. Raises ProfileError.
    """
    base = _base(profile)
    settings = settings_of(base)
    for key, setting in environment_settings(environ if environment is None else environment).items():
        if key not in settings or settings[key].origin.kind is not OriginKind.OVERRIDE:
            settings[key] = setting
    return build(settings | override_settings(overrides), base.source)


def with_overrides(profile: CompileProfile, overrides: Iterable[str]) -> CompileProfile:
    """The profile with `section.key=value` texts applied. Raises ProfileError."""
    return build(settings_of(profile) | override_settings(overrides), profile.source)


def load_preset(name: str) -> CompileProfile:
    """The shipped profile of that name; raises ProfileError RLX-P008."""
    return _assemble(Document.of_preset(name), name)


def load_text(text: str, source: str) -> CompileProfile:
    """The profile of a TOML text; raises ProfileError."""
    return _assemble(Document.of_text(text, source), source)


def load_path(path: str | PathLike[str]) -> CompileProfile:
    """The profile of a TOML file; raises ProfileError."""
    return _assemble(Document.of_path(Path(path)), str(path))


def _base(profile: object) -> CompileProfile:
    if isinstance(profile, CompileProfile):
        return profile
    if isinstance(profile, str):
        is_path = profile.endswith(".toml") or "/" in profile or "\\" in profile
        return load_path(profile) if is_path else load_preset(profile)
    if isinstance(profile, PathLike):
        return load_path(profile)
    raise ProfileError(
        f"a profile is a preset's name, a path or a CompileProfile, not {type(profile).__name__}",
        code="RLX-P008",
        hint='for example "encoder", or CompileProfile.from_toml_str(text)',
    )


def _assemble(document: Document, source: str) -> CompileProfile:
    """The document over what it extends; each file of the chain must be a valid profile by itself."""
    chain = [document]
    while (parent := chain[-1].parent()) is not None:
        if any(parent.identity == earlier.identity for earlier in chain):
            names = " -> ".join(link.label for link in (*chain, parent))
            raise chain[-1].extends_error(f"extends runs in a circle: {names}", "remove one extends line")
        if len(chain) > MAX_EXTENDS:
            raise chain[-1].extends_error(
                f"more than {MAX_EXTENDS} profiles extend one another", "merge some of the files"
            )
        chain.append(parent)
    settings: Settings = {}
    for link in reversed(chain):
        kind = OriginKind.FILE if link is document else OriginKind.EXTENDS
        settings |= link.settings(kind)
        profile = build(settings, source)
    return profile


def build(settings: Settings, source: str) -> CompileProfile:
    """A profile from settings; problems of all sections are reported at once, each at its origin."""
    tables: dict[str, dict[str, Any]] = {name: {} for name in sections()}
    for key, setting in settings.items():
        section, _, leaf = key.rpartition(".")
        tables[section][leaf] = setting.value
    places = {key: setting.origin.where for key, setting in settings.items()}
    problems: list[Problem] = []
    for name, section_type in reversed(sections().items()):  # inner sections first, the whole profile last
        if problems and not name:
            break
        try:
            made = section_type(**tables[name])
        except ProfileError as error:
            problems += problems_of(error)
            continue
        if isinstance(made, CompileProfile):
            made.remember(source, {key: setting.origin for key, setting in settings.items()})
            return made
        outer, _, leaf = name.rpartition(".")
        tables[outer][leaf] = made
    raise profile_error(problems, places)


def settings_of(profile: CompileProfile) -> Settings:
    """A profile taken apart again, each value with its origin."""
    return {key: Setting(value, profile.origin(key)) for key, value in profile.values().items()}
