"""The shipped profiles: the `*.rlx.toml` files of the package `rlxflow.profiles`."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from rlxflow.errors import ProfileError, nearest, printable
from rlxflow.profile.read import decode

SUFFIX = ".rlx.toml"


def preset_names() -> tuple[str, ...]:
    """The names that `CompileProfile.preset` takes, sorted."""
    return tuple(_preset_files())


@cache
def preset_text(name: str) -> str:
    """The TOML text of a preset; raises ProfileError RLX-P008 where there is none of that name."""
    file = _preset_files().get(name)
    if file is None:
        known = f"the presets are {', '.join(preset_names())}; a profile's file ends in .toml"
        raise ProfileError(
            f"no preset is named '{printable(name, 80)}'",
            code="RLX-P008",
            hint=nearest(name[:80], preset_names()) or known,
        )
    return decode(file.read_bytes(), name + SUFFIX)


@cache
def _preset_files() -> dict[str, Traversable]:
    found = [file for file in _folder().iterdir() if file.name.endswith(SUFFIX)]
    return {file.name.removesuffix(SUFFIX): file for file in sorted(found, key=lambda file: file.name)}


def _folder() -> Traversable:
    try:
        return files("rlxflow.profiles")
    except ModuleNotFoundError:  # a source checkout that is on the path but not installed
        return Path(__file__).parents[2] / "profiles"
