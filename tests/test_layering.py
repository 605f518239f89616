"""Imports run one way: errors ← ir ← ops ← (fusion, backends); flow ← stages; recipes see public names."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "rlxflow").rglob("*.py"))
RECIPES = sorted((ROOT / "recipes").glob("*.py"))
LEAVES = {"errors", "codes", "dtypes", "garbage", "quick_dataclass"}
HEAVY = {"pydantic", "tokenizers", "gguf", "safetensors", "jinja2", "ml_dtypes", "tomli", "llvmlite"}

# part → the parts it may import (itself always); a part is a folder or a module directly under rlxflow/
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "codes": set(),
    "dtypes": {"quick_dataclass"},
    "quick_dataclass": set(),
    "garbage": set(),
    "dequantize": {"errors", "dtypes", "quick_dataclass"},
    "weights": {*LEAVES, "dequantize"},
    "profile": LEAVES,
    "ir": LEAVES,
    "ops": {*LEAVES, "ir"},
    "fusion": {*LEAVES, "ir", "ops", "profile", "weights"},
    "backends": {*LEAVES, "ir", "ops", "dequantize", "weights", "profile"},
    "flow": {*LEAVES, "ir", "ops", "weights", "profile", "stages", "runtime", "backends", "fusion"},
    "stages": {*LEAVES, "ir", "ops", "flow", "weights"},
}
# What may be imported only for type checkers or inside functions, so that loading a part stays one-way.
LAZY: dict[str, set[str]] = {
    "backends": {"profile"},
    "flow": {"stages", "runtime", "backends", "fusion", "profile"},
}
ABOVE = {
    "runtime",
    "inspect",
    "porting",
    "cli",
    "__init__",
    "__main__",
    "blocks",
    "escape",
    "prelude",
    "stream",
}


def part_of(path: Path) -> str:
    relative = path.relative_to(ROOT / "rlxflow")
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imports(path: Path) -> list[tuple[str, bool]]:
    """(module, whether it is imported when the file is) for every import in a file."""
    tree = ast.parse(path.read_text("utf-8"))
    lazy: set[int] = set()
    for node in ast.walk(tree):
        guarded = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if guarded or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            lazy |= {id(inner) for inner in ast.walk(node)}
    found: list[tuple[str, bool]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) not in lazy) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            names = [f"{module}.{a.name}" for a in node.names] if module == "rlxflow" else [module]
            found += [(name, id(node) not in lazy) for name in names]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_one_way(path: Path) -> None:
    part = part_of(path)
    if part in ABOVE:
        return
    assert part in ALLOWED, f"say in ALLOWED what {part} may import"
    for module, at_import in imports(path):
        if not module.startswith("rlxflow."):
            continue
        target, inner = module.split(".")[1], module.removeprefix("rlxflow.")
        allowed = target == part or target in ALLOWED[part] or inner in ALLOWED[part]
        assert allowed, f"{path.relative_to(ROOT)} imports {module}"
        if at_import and target != part:
            assert target not in LAZY.get(part, set()), (
                f"{path.relative_to(ROOT)} imports {module} when it loads"
            )


def test_every_part_is_ruled() -> None:
    assert {part_of(p) for p in FILES} <= {*ALLOWED, *ABOVE}


def test_files_of_tests_have_names_of_their_own() -> None:
    """pytest imports them by their names, and stops at a second one."""
    names = [path.name for path in Path(__file__).parent.rglob("test_*.py")]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.name)
def test_recipes_use_public_names_only(path: Path) -> None:
    import rlxflow

    for module, _ in imports(path):
        top = module.split(".")[0]
        assert top in ("rlxflow", "__future__", "typing", "collections", "dataclasses", "math", "pydantic"), (
            module
        )
        if top == "rlxflow":
            name = module.removeprefix("rlxflow.")
            assert "." not in name and name in dir(rlxflow), f"{path.name}: {module} is not a public name"


def test_nothing_heavy_is_loaded_with_the_library_or_a_flow() -> None:
    """Heavy packages are imported where they are used: importing rlxflow and checking a flow stay fast."""
    program = f"""
import sys, rlxflow
rlxflow.ModelFlow("m").input("x", ("B", "S"), "i64").embed("w", 5, 4).rms_norm("n", 1e-6).check()
loaded = sorted({HEAVY!r} & set(sys.modules))
sys.exit(", ".join(loaded) if loaded else 0)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
