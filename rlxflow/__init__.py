"""rlxflow: declare a transformer as a line of stages, point it at real weights, get a fast program.

The public names are listed once, in `__init__.pyi`; each is imported from its module at its first use.
"""

from __future__ import annotations

import importlib
from functools import cache
from pathlib import Path
from typing import Any

from rlxflow.garbage import uncollected

__version__ = "0.1.0"


@cache
def _homes() -> dict[str, str]:
    """Public name → module, from the lines `from module import name as name` of the stub."""
    homes = {}
    for statement in (
        Path(__file__).with_suffix(".pyi").read_text("utf-8").replace("\n    ", " ").splitlines()
    ):
        if statement.startswith("from "):
            _, module, _, names = statement.split(" ", 3)
            for name in names.strip("() ,").split(","):
                homes[name.split(" as ")[-1].strip()] = module
    return homes


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return sorted(_homes())
    if name.startswith("__") or name not in _homes():
        from rlxflow.errors import nearest

        hint = "" if name.startswith("__") else nearest(name, _homes())
        raise AttributeError(f"module 'rlxflow' has no attribute {name!r}. {hint}".rstrip())
    with uncollected():
        value = getattr(importlib.import_module(_homes()[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_homes()})
