"""The key table of docs/profiles.md and the JSON schema for editors, both read off the model."""

from __future__ import annotations

from typing import Any

from rlxflow.profile.document import VERSION
from rlxflow.profile.keys import Key, keys
from rlxflow.profile.model import CompileProfile
from rlxflow.profile.presets import preset_names, preset_text
from rlxflow.profile.write import toml_literal


def profile_table() -> str:
    """Every key as a Markdown table: type, default, effect."""
    rows = [
        f"| `{key.name}` | {_type(key)} | `{toml_literal(key.default)}` | {key.effect} |"
        for key in keys().values()
    ]
    return "\n".join(["| key | type | default | effect |", "|---|---|---|---|", *rows])


def preset_table() -> str:
    """Every preset as a Markdown table: name and the first comment of its file."""
    rows = [f"| `{name}` | {preset_summary(name)} |" for name in preset_names()]
    return "\n".join(["| preset | what it is and what it trades |", "|---|---|", *rows])


def preset_summary(name: str) -> str:
    """The comment that opens a preset's file, on one line."""
    comment = []
    for line in preset_text(name).splitlines():
        if not line.startswith("#"):
            break
        comment.append(line.lstrip("# "))
    return " ".join(comment)


def profile_schema() -> dict[str, Any]:
    """The JSON schema of a profile file, for editors that check TOML against one."""
    schema = CompileProfile.model_json_schema(by_alias=True)
    schema["title"] = "rlxflow compile profile"
    schema["properties"] |= {
        "version": {"type": "integer", "minimum": 1, "maximum": VERSION, "default": VERSION},
        "extends": {"type": "string", "description": "A preset's name, or a .toml file beside this one."},
    }
    return schema


def _type(key: Key) -> str:
    if key.choices:
        return ", ".join(f"`{choice}`" for choice in key.choices)
    if key.bounds:
        return f"{'number' if key.type is float else 'integer'} {key.bounds[0]} to {key.bounds[1]}"
    return "`true`, `false`"
