"""The pair of files that most scripts write, which `tests/goldens.py` reads."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

GOLDENS = Path(__file__).parents[1] / "goldens"


def write_goldens(
    name: str,
    records: Iterable[Mapping[str, Any]],
    arrays: Mapping[str, np.ndarray],
    seed: int,
    packages: tuple[str, ...] = ("transformers", "torch"),
    **head: object,
) -> None:
    """`goldens/NAME.json`, a case per line behind what made them, and `goldens/NAME.npz`."""
    made_with = {package: version(package) for package in packages}
    start = json.dumps({"made_with": made_with, "seed": seed, **head})
    lines = ",\n".join(json.dumps(record, separators=(",", ":")) for record in records)
    (GOLDENS / f"{name}.json").write_text(f'{start[:-1]}, "cases": [\n{lines}\n]}}\n', encoding="utf-8")
    np.savez_compressed(GOLDENS / f"{name}.npz", **arrays)  # type: ignore[arg-type]


def within_limits(least: Mapping[str, list[float]], limits: Mapping[str, float]) -> bool:
    """Print the smallest value of each kind; whether all are at least their limit (100 if none is given)."""
    passed = True
    for name, values in least.items():
        limit = limits.get(name, 100.0)
        enough = min(values) >= limit
        passed &= enough
        worst = "" if enough else "  FAILS"
        print(f"  {name:34} {len(values):2} cases, min {min(values):9.2f}, needs {limit:g}{worst}")
    return passed
