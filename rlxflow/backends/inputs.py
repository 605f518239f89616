"""Checking what a call passes to a compiled graph, before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rlxflow.backends.base import CacheState
from rlxflow.dtypes import Array, to_numpy
from rlxflow.errors import BackendError, InputError, nearest, printable
from rlxflow.ir.dims import Sym, bind_shape, names, shape_text
from rlxflow.ir.graph import Graph
from rlxflow.ir.values import Value

MOST_SHAPES = 1024  # whose sizes are remembered


class InputCheck:
    """Checks the inputs of a graph; sizes read off shapes are remembered, for short calls feel them."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._wanted = [(name, value, to_numpy(value.dtype)) for name, value in graph.inputs.items()]
        self._sizes: dict[tuple[tuple[int, ...], ...], dict[str, int]] = {}

    def __call__(self, inputs: Mapping[str, Array]) -> tuple[dict[str, Array], dict[str, int]]:
        """The inputs in native byte order, and the named sizes read off their shapes.

        Arrays may have any strides and may be read-only: they are not written to. Raises `InputError` for a
        missing or unknown input, another dtype or rank than declared, and sizes that contradict each other.
        """
        if getattr(inputs, "keys", None) is None:
            hint = f"pass {{{', '.join(f'{name!r}: …' for name in self._graph.inputs)}}}"
            message = f"inputs are given by name, not as {type(inputs).__name__}"
            raise InputError(message, code="RLX-R006", where=self._graph.name, hint=hint)
        if not inputs.keys() <= self._graph.inputs.keys():
            name = next(n for n in inputs if n not in self._graph.inputs)
            hint = nearest(name, self._graph.inputs) or f"inputs: {', '.join(self._graph.inputs)}"
            raise InputError(f"no input {name!r}", code="RLX-R006", where=self._graph.name, hint=hint)
        arrays: dict[str, Array] = {}
        for name, value, dtype in self._wanted:
            if name not in inputs:
                hint = f"pass {name}={value.type}"
                message = f"input {name!r} is missing"
                raise InputError(message, code="RLX-R002", where=self._graph.name, hint=hint)
            arrays[name] = _native(name, inputs[name], value, dtype)
        shapes = tuple(a.shape for a in arrays.values())
        if shapes not in self._sizes:
            if len(self._sizes) == MOST_SHAPES:
                self._sizes.clear()
            self._sizes[shapes] = _sizes(self._graph, arrays)
        return arrays, dict(self._sizes[shapes])


def _native(name: str, array: object, value: Value, wanted: np.dtype[Any]) -> Array:
    if type(array) is np.ndarray and array.dtype == wanted and array.ndim == value.rank:
        return array
    fits = isinstance(array, np.ndarray) and array.ndim == value.rank
    if fits and array.dtype.newbyteorder("=") == wanted:  # type: ignore[attr-defined]
        return np.asarray(array, wanted)  # a plain array: matrix and masked ones calculate differently
    got = f"{array.dtype}{list(array.shape)}" if isinstance(array, np.ndarray) else type(array).__name__
    hint = f"it takes an array {value.type}"
    raise InputError(f"input {name!r} is {got}", code="RLX-R003", where=f"{name}: {value.type}", hint=hint)


def _sizes(graph: Graph, arrays: Mapping[str, Array]) -> dict[str, int]:
    """Sizes of plain names first; then integers and sums such as S+1 must agree with them."""
    sizes: dict[str, int] = {}
    declared = [
        (name, value.shape, dim, size)
        for name, value in graph.inputs.items()
        for dim, size in zip(value.shape, arrays[name].shape, strict=True)
    ]
    for _, _, dim, size in declared:
        if isinstance(dim, Sym) and str(dim) in names(dim):
            sizes.setdefault(str(dim), size)
    for name, shape, dim, size in declared:
        (known,) = bind_shape((dim,), sizes)
        if known != size:
            what = f": {dim} = {size} in {shape_text(shape)}, but {known} elsewhere"
            if isinstance(dim, int):
                what = f" has {size} where {shape_text(shape)} has {dim}"
            message = f"input {name!r}{what}"
            where = f"{name}: {graph.inputs[name].type}"
            raise InputError(message, code="RLX-R004", where=where, hint="make the inputs' sizes agree")
    return sizes


def no_output(graph: Graph, name: object) -> InputError:
    """The error for a name that is none of a graph's outputs."""
    hint = nearest(str(name), graph.outputs) or f"outputs: {', '.join(graph.outputs)}"
    return InputError(f"no output {printable(repr(name), 80)}", code="RLX-R005", where=graph.name, hint=hint)


def checked_caches(graph: Graph, state: CacheState | None, sizes: dict[str, int]) -> dict[str, Array]:
    """The arrays of the graph's states; enters their capacity `C` into `sizes`."""
    if not graph.states:
        return {}
    if state is None:
        hint = "pass state=executable.new_state(...)"
        raise BackendError("this program needs a cache state", code="RLX-B002", where=graph.name, hint=hint)
    sizes["C"] = state.capacity
    for s in graph.states:
        shape = bind_shape(s.before.shape, sizes)
        array = state.arrays.get(s.name)
        if array is None or array.shape != shape or array.dtype != to_numpy(s.before.dtype):
            found = "absent" if array is None else f"{array.dtype}{list(array.shape)}"
            message = f"cache {s.name!r} is {found}, wanted {s.before.dtype}{list(shape)}"
            hint = "use a state that this program's new_state made, with one row per sequence"
            raise InputError(message, code="RLX-R014", where=graph.name, hint=hint)
    return state.arrays
