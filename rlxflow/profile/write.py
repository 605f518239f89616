"""A profile as TOML text."""

from __future__ import annotations

from rlxflow.profile.document import VERSION
from rlxflow.profile.model import CompileProfile


def to_toml(profile: CompileProfile) -> str:
    """Every value of the profile, by section, in the order of the documentation."""
    lines = [f"version = {VERSION}"]
    current = ""
    for key, value in profile.values().items():
        section, _, leaf = key.rpartition(".")
        if section != current:
            lines += ["", f"[{section}]"]
            current = section
        lines.append(f"{leaf} = {toml_literal(value)}")
    return "\n".join(lines) + "\n"


def toml_literal(value: bool | int | float | str) -> str:
    """One value as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f'"{value}"' if isinstance(value, str) else str(value)
