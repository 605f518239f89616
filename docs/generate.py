"""Writes what the docs take from the code: tables of README.md and profiles.md, the diff of porting.md,
errors.md, names.md.
"""

from __future__ import annotations

import difflib
import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rlxflow
from rlxflow.codes import CODES
from rlxflow.inspect.catalog import CATALOG
from rlxflow.profile import preset_table, profile_table

ROOT = Path(__file__).parent.parent
KINDS = {
    "W": "Weights",
    "C": "Configs and recipes",
    "T": "Tokenizers and templates",
    "P": "Profiles",
    "F": "Flows",
    "I": "Graphs",
    "U": "Fusion",
    "B": "Backends",
    "R": "Calls",
    "X": "Plugins",
}


def first_line(thing: Any) -> str:
    """The first sentence or line of a docstring, fit for a table cell."""
    return (thing.__doc__ or "").strip().split("\n")[0].rstrip(".").replace("|", "\\|")


def table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def recipes() -> str:
    return table(
        ("recipe", "models"), [(f"`{name}`", line.rstrip(".")) for name, line in CATALOG["recipes"]()]
    )


def stages() -> str:
    names = [name for name, _ in CATALOG["stages"]()]
    return table(("stage", "computes"), [(f"`{n}`", first_line(getattr(rlxflow, n))) for n in names])


def errors() -> str:
    parts = [
        "# Errors by code",
        "",
        "Every error is an `RlxError` with a code, one line, a place and a next step.",
    ]
    for letter, title in KINDS.items():
        rows = [(f"`{code}`", text) for code, text in sorted(CODES.items()) if code[4] == letter]
        if rows:
            parts += ["", f"## {title}", "", table(("code", "meaning"), rows)]
    return "\n".join([*parts, ""])


def names() -> str:
    """names.md, by the script beside this one."""
    spec = importlib.util.spec_from_file_location("docs_names", ROOT / "docs" / "names.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text: str = module.page()
    return text


def port() -> str:
    """From the first draft of porting.md, its first block that is a recipe, to the recipe that came of it."""
    text = (ROOT / "docs" / "porting.md").read_text("utf-8")
    drafts = [block for block in re.findall(r"^```text\n(.*?)^```", text, re.S | re.M) if "RECIPE =" in block]
    name = "recipes/starcoder2.py"
    final = (ROOT / name).read_text("utf-8").splitlines(keepends=True)
    lines = difflib.unified_diff(drafts[0].splitlines(keepends=True), final, "first draft", name)
    return f"```diff\n{''.join(lines)}```"


TABLES: dict[str, dict[str, Callable[[], str]]] = {
    "README.md": {"recipes": recipes, "stages": stages, "presets": preset_table},
    "docs/profiles.md": {"presets": preset_table, "keys": profile_table},
    "docs/porting.md": {"port": port},
}


def renewed(page: str) -> str:
    """A page with its generated tables as they should be."""
    text = (ROOT / page).read_text("utf-8")
    for name, fill in TABLES[page].items():
        block = f"<!-- generated: {name} -->\n{fill()}\n<!-- end -->"
        text, found = re.subn(
            rf"<!-- generated: {name} -->.*?<!-- end -->", lambda _, b=block: b, text, flags=re.S
        )
        if not found:
            raise SystemExit(f"{page} has no place for the table of {name}")
    return text


def pages() -> dict[Path, str]:
    """Path → what it should hold."""
    return {
        **{ROOT / page: renewed(page) for page in TABLES},
        ROOT / "docs" / "errors.md": errors(),
        ROOT / "docs" / "names.md": names(),
    }


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, "utf-8")
