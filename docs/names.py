"""Writes names.md: each name of the vocabulary with what it is, the weights it wants, and an example."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import textwrap
from pathlib import Path
from types import ModuleType
from typing import Any

import rlxflow

ROOT = Path(__file__).parent.parent
INTRO = """# Names

The vocabulary of the library, one entry per name: what it is, its fields, the weights that its example wants,
and the example, which a test runs. All are imported from `rlxflow`; `rlxflow.blocks`, `rlxflow.stream`,
`rlxflow.escape` and `rlxflow.prelude` hold the same things under other headings.
"""


def examples() -> ModuleType:
    """docs/name_examples.py."""
    spec = importlib.util.spec_from_file_location("name_examples", ROOT / "docs" / "name_examples.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def page() -> str:
    functions = _functions()
    parts = [INTRO]
    parts += [_entry(name, functions[name]) for name in sorted(functions, key=str.lower)]
    return "\n".join(parts)


def _functions() -> dict[str, Any]:
    return {n: f for n, f in vars(examples()).items() if inspect.isfunction(f) and not n.startswith("_")}


def thing(name: str) -> Any:
    """What a name stands for; the four re-export modules are modules."""
    return getattr(rlxflow, name, None) or importlib.import_module(f"rlxflow.{name}")


def _entry(name: str, example: Any) -> str:
    named = thing(name)
    about = inspect.getdoc(named) or ""
    lines = [f"## {name}", "", *_alias(name, named), _markdown(about), "", *_fields(named)]
    wanted = example()
    if wanted is not None:
        lines += ["Weights of the example:", "", *(f"- `{s.key}` {_shape(s)}" for s in wanted.weights()), ""]
    lines += ["```python", _body(example), "```", ""]
    return "\n".join(lines)


def _alias(name: str, named: Any) -> list[str]:
    own = getattr(named, "__name__", name).rpartition(".")[2]
    return [] if own == name else [f"Another name of `{own}`.", ""]


def _shape(spec: Any) -> str:
    return "[" + ", ".join("any" if size is None else str(size) for size in spec.shape) + "]"


def _fields(named: Any) -> list[str]:
    annotations = inspect.get_annotations(named) if inspect.isclass(named) else {}
    own = {name: str(t) for name, t in annotations.items() if not name.startswith("_")}
    shown = [f"`{name}: {t}`" for name, t in own.items() if not t.startswith(("ClassVar", "Final"))]
    return [f"Fields: {', '.join(shown)}.", ""] if shown else []


def _markdown(docstring: str) -> str:
    """A docstring as Markdown: what is set off by indentation becomes a block."""
    parts = []
    for paragraph in docstring.split("\n\n"):
        indented = paragraph.startswith((" ", ">>>"))
        parts.append(f"```text\n{textwrap.dedent(paragraph)}\n```" if indented else paragraph)
    return "\n\n".join(parts)


def _body(function: Any) -> str:
    """The lines of a function; what it returns becomes its last line."""
    source = textwrap.dedent(inspect.getsource(function))
    statements = ast.parse(source).body[0].body  # type: ignore[attr-defined]
    lines = source.splitlines()[statements[0].lineno - 1 :]
    body = textwrap.dedent("\n".join(lines))
    last = statements[-1]
    return body.replace("\nreturn ", "\n") if isinstance(last, ast.Return) else body
