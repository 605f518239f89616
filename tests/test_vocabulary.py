"""The vocabulary: every name of the list is public, has an example that uses it, and the example runs."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from pathlib import Path
from types import ModuleType

import pytest

import rlxflow

ROOT = Path(__file__).parent.parent
MODULES = {"blocks", "escape", "prelude", "stream"}
NAMES = (Path(__file__).parent / "vocabulary.txt").read_text("utf-8").split()


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


EXAMPLES = load("name_examples")


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_public_documented_and_used(name: str) -> None:
    if name in MODULES:
        module = importlib.import_module(f"rlxflow.{name}")
        assert module.__doc__ and len(inspect.getsource(module).splitlines()) < 10
    else:
        assert name in rlxflow.__all__
        assert inspect.getdoc(getattr(rlxflow, name))
    example = getattr(EXAMPLES, name)
    assert inspect.getsource(example).count(name) >= 2  # beyond its own `def`
    wanted = example()
    assert wanted is None or all(spec.key for spec in wanted.weights())


def test_the_page_has_every_name() -> None:
    page = (ROOT / "docs" / "names.md").read_text("utf-8")
    assert [name for name in NAMES if f"\n## {name}\n" not in page] == []


def test_star_imports_of_the_re_export_modules() -> None:
    for module in MODULES - {"escape", "stream"}:
        scope: dict[str, object] = {}
        exec(f"from rlxflow.{module} import *", scope)
        assert "BertEncoderLayerStage" in scope
