"""Graph extensions: named functions graph → graph that a flow applies after its stages have emitted.

Packages offer them as entry points of the group `rlxflow.graph_extensions`; a program registers its own with
`graph_extension`. A flow applies none unless it says so.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import TypeAlias

from rlxflow.errors import PluginError, nearest, printable
from rlxflow.ir.graph import Graph
from rlxflow.quick_dataclass import dataclass

Extension: TypeAlias = Callable[[Graph], Graph]

_registered: dict[str, Extension] = {}


def graph_extension(name: str) -> Callable[[Extension], Extension]:
    """Decorator: register a function under a name; one of the same name is replaced in its place."""

    def register(function: Extension) -> Extension:
        _registered[name] = function
        return function

    return register


def extension_names() -> tuple[str, ...]:
    """Every extension: those registered, in order, then those of packages, sorted."""
    points = sorted(p.name for p in entry_points(group="rlxflow.graph_extensions"))
    return tuple(dict.fromkeys([*_registered, *points]))


@dataclass(frozen=True)
class FlowExtensionPlan:
    """Which graph extensions a flow applies: none (the default), all there are, or only those named.

    `ModelFlow.with_extensions(plan)`. Extensions run in the order named, on the unfused graph; what they give
    is verified. They may use the flow's weights and inputs, and add outputs.
    """

    enabled: tuple[str, ...] = ()
    apply_all: bool = False

    @classmethod
    def none(cls) -> FlowExtensionPlan:
        """Apply nothing."""
        return cls()

    @classmethod
    def all(cls) -> FlowExtensionPlan:
        """Apply every extension there is when the flow is built."""
        return cls(apply_all=True)

    @classmethod
    def only(cls, *names: str) -> FlowExtensionPlan:
        """Apply these, in this order."""
        return cls(enabled=names)

    def apply(self, graph: Graph) -> Graph:
        """The extended graph.

        Raises `PluginError` for an unknown name (X009), one that does not load (X004), and an extension that
        fails or gives something else than a graph (X010).
        """
        for name in extension_names() if self.apply_all else self.enabled:
            graph = _applied(name, _find(name), graph)
        return graph


NO_EXTENSIONS = FlowExtensionPlan()


def _find(name: str) -> Extension:
    if name in _registered:
        return _registered[name]
    points = {p.name: p for p in entry_points(group="rlxflow.graph_extensions")}
    if name not in points:
        known = extension_names()
        hint = nearest(name, known) or f"known: {', '.join(known) or 'none'}"
        raise PluginError(f"no graph extension {printable(name)!r}", code="RLX-X009", hint=hint)
    try:
        loaded: Extension = points[name].load()
    except Exception as error:
        message = f"graph extension {name!r} does not load: {printable(error)}"
        raise PluginError(
            message, code="RLX-X004", where=points[name].value, hint="reinstall its package"
        ) from error
    return loaded


def _applied(name: str, extension: Extension, graph: Graph) -> Graph:
    try:
        result: object = extension(graph)
    except Exception as error:
        message = f"graph extension {name!r} raised {type(error).__name__}: {printable(error)}"
        raise PluginError(message, code="RLX-X010", hint="leave it out of the flow's extensions") from error
    if not isinstance(result, Graph):
        message = f"graph extension {name!r} gave {type(result).__name__}, not a graph"
        raise PluginError(message, code="RLX-X010", hint="return the graph it was given, or a new one")
    return result
