"""The key table of docs/profiles.md and the JSON schema for editors, both read off the model."""

from __future__ import annotations

from typing import Any

from rlxflow.profile.document import VERSION
from rlxflow.profile.keys import Key, keys, sections
from rlxflow.profile.model import CompileProfile
from rlxflow.profile.presets import preset_names, preset_text
from rlxflow.profile.sections import TOKEN_LIMITS, RuleSection, Section
from rlxflow.profile.write import toml_literal

_JSON_TYPES = {bool: "boolean", int: "integer", float: "number"}


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
    schema = _section_schema(CompileProfile)
    schema["title"] = "rlxflow compile profile"
    schema["properties"] |= {
        "version": {"type": "integer", "minimum": 1, "maximum": VERSION, "default": VERSION},
        "extends": {"type": "string", "description": "A preset's name, or a .toml file beside this one."},
    }
    inner = {kind.__name__: _section_schema(kind) for name, kind in sections().items() if name}
    return {"$defs": inner, **schema}


def _section_schema(section: type[Section]) -> dict[str, Any]:
    """The schema of one table; inner tables stand under their names in `$defs`."""
    properties: dict[str, Any] = {}
    for name, field in section.fields().items():
        key = section.key(name)
        if issubclass(field.type, Section):
            properties[key] = {"$ref": f"#/$defs/{field.type.__name__}"}
        else:
            properties[key] = _key_schema(keys()[f"{section.section}.{key}"])
    return {
        "type": "object",
        "description": (section.__doc__ or "").partition("\n")[0],
        "properties": properties,
        "additionalProperties": _others_schema(section),
    }


def _others_schema(section: type[Section]) -> dict[str, Any] | bool:
    """What rules that no key names may be set to."""
    if not issubclass(section, RuleSection):
        return False
    if section.others is bool:
        return {"type": "boolean"}
    return {"type": "integer", "minimum": TOKEN_LIMITS.ge, "maximum": TOKEN_LIMITS.le}


def _key_schema(key: Key) -> dict[str, Any]:
    schema = {"description": key.effect, "default": key.default}
    if key.choices:
        return {**schema, "type": "string", "enum": list(key.choices)}
    schema["type"] = _JSON_TYPES[key.type]
    if key.bounds:
        schema |= {"minimum": key.bounds[0], "maximum": key.bounds[1]}
    return schema


def _type(key: Key) -> str:
    if key.choices:
        return ", ".join(f"`{choice}`" for choice in key.choices)
    if key.bounds:
        return f"{'number' if key.type is float else 'integer'} {key.bounds[0]} to {key.bounds[1]}"
    return "`true`, `false`"
