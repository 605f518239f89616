"""From what a caller passes to what a program takes: types, defaults, and packing of decoder rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from math import prod
from operator import index
from typing import Any

import numpy as np

from rlxflow.dtypes import Array, to_numpy
from rlxflow.errors import InputError, nearest, printable
from rlxflow.flow.input_spec import InputSpec
from rlxflow.ir.dims import bind_shape, names, shape_text
from rlxflow.ir.graph import Graph
from rlxflow.quick_dataclass import dataclass
from rlxflow.weights.memory import available_memory

REMEMBERED = 4096  # calls, and positions of an array


def as_array(value: Any, spec: InputSpec) -> Array:
    """A native, C-contiguous array of the declared dtype; raises `InputError` where it cannot be one.

    Integers of any width are accepted for integer inputs if they fit; floats are not. An attention mask may
    be of bools; its integers must be 0 or 1.
    """
    wanted = to_numpy(spec.dtype)
    is_mask = spec.name == "attention_mask"
    if type(value) is np.ndarray and value.dtype == wanted and value.ndim == len(spec.shape):
        zero_or_one = not is_mask or _largest(value.view(f"u{wanted.itemsize}")) <= 1
        if zero_or_one:
            return value if value.flags.c_contiguous else np.ascontiguousarray(value)
    try:
        array = np.asarray(value)
    except ValueError as error:
        hint = "pad the rows to one length and pass an attention_mask"
        raise _refused(spec, "is ragged", "RLX-R010", hint) from error
    kind = "iu" + ("b" if is_mask else "") if spec.dtype.kind == "int" else "f"
    if array.dtype.kind not in kind and array.size:
        about = "; 1 = a token, 0 = padding" if is_mask else "; cast ids to integers"
        hint = f"it takes {spec.dtype}" + (about if spec.dtype.kind == "int" else "")
        raise _refused(spec, f"has type {array.dtype}", "RLX-R011", hint)
    if array.ndim != len(spec.shape):
        hint = f"it takes {shape_text(spec.shape)}"
        hint += f": wrap one sequence, [{spec.name}]" if array.ndim == 1 else ""
        raise _refused(spec, f"has {array.ndim} axes", "RLX-R012", hint)
    if spec.dtype.kind == "int" and array.size:
        low, high = (0, 1) if is_mask else (np.iinfo(wanted).min, np.iinfo(wanted).max)
        bad = int(array.min()) if array.min() < low else int(array.max())
        if not low <= bad <= high:
            hint = "1 = a token, 0 = padding" if is_mask else f"it takes {spec.dtype}"
            raise _refused(spec, f"holds {bad}", "RLX-R017", hint)
    return np.ascontiguousarray(array.astype(wanted, copy=False))


def _largest(array: Array) -> int:
    """The largest of some numbers, or 0; without what NumPy's method does in Python before."""
    return int(np.maximum.reduce(array, axis=None, initial=0))


def _refused(spec: InputSpec, what: str, code: str, hint: str) -> InputError:
    """An error about one input; its place is the input as it was declared."""
    where = f"{spec.name}: {spec.dtype}{shape_text(spec.shape)}"
    return InputError(f"input {spec.name!r} {what}", code=code, where=where, hint=hint)


@lru_cache(16)
def _filled(shape: tuple[int, ...], value: int, dtype: np.dtype[Any]) -> Array:
    """A read-only array of one value."""
    array = np.full(shape, value, dtype)
    array.flags.writeable = False
    return array


def complete(specs: tuple[InputSpec, ...], arrays: Mapping[str, Any]) -> dict[str, Array]:
    """Every declared input as an array, defaults filled in to the shape of the first input."""
    known = {spec.name: spec for spec in specs}
    for name in arrays:
        if name not in known:
            hint = nearest(name, known) or f"inputs: {', '.join(known)}"
            raise InputError(f"no input {printable(name)!r}", code="RLX-R006", hint=hint)
    given = {n: as_array(v, known[n]) for n, v in arrays.items() if v is not None}
    if specs and specs[0].name not in given:
        raise InputError(
            f"input {specs[0].name!r} is missing", code="RLX-R002", hint=f"pass {specs[0].name}=…"
        )
    for spec in specs:
        if spec.name not in given and spec.default is not None and spec.shape == specs[0].shape:
            shape, dtype = given[specs[0].name].shape, to_numpy(spec.dtype)
            make = _filled if prod(shape) <= REMEMBERED else np.full
            given[spec.name] = make(shape, spec.default, dtype)
    return given


def check_length(inputs: Mapping[str, Array], max_positions: int | None, hint: str) -> None:
    """Raise `InputError` (R016) for a sequence longer than the model was made for; padding does not count."""
    ids, mask = inputs.get("input_ids"), inputs.get("attention_mask")
    if max_positions is None or ids is None or ids.ndim != 2 or ids.shape[1] <= max_positions:
        return
    valid = np.ones(ids.shape, bool) if mask is None or mask.shape != ids.shape else mask != 0
    spans = ids.shape[1] - valid[:, ::-1].argmax(1) - valid.argmax(1)  # from the first token to the last
    longest = int(np.where(valid.any(1), spans, 0).max(initial=0))
    if longest > max_positions:
        message = f"a sequence has {longest} tokens, the model takes {max_positions}"
        raise InputError(message, code="RLX-R016", hint=hint)


def names_of(outputs: object) -> tuple[str, ...]:
    """The names of outputs that a caller wants: one, or several; raises `InputError` (R005) for neither."""
    if isinstance(outputs, str):
        return (outputs,)
    if not isinstance(outputs, Iterable):
        message = f"outputs is {printable(repr(outputs), 40)}"
        raise InputError(message, code="RLX-R005", where="outputs=", hint="give a name or a list of names")
    return tuple(outputs)


def is_count(value: Any) -> bool:
    """Whether this is an integer of 0 or more, Python's or NumPy's."""
    try:
        return not isinstance(value, bool) and index(value) >= 0
    except TypeError:
        return False


def want_batch_size(size: object) -> None:
    """Raise `InputError` (R022) for what is not a count of rows."""
    if not is_count(size) or size == 0:
        message = f"batch_size is {printable(repr(size), 40)}"
        raise InputError(message, code="RLX-R022", where="batch_size=", hint="give a positive integer")


class RoomCheck:
    """Refuses calls of a graph whose results and caches are larger than the free memory."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._small: set[object] = set()  # calls that need no look

    def __call__(self, inputs: Mapping[str, Array], outputs: tuple[str, ...], capacity: int) -> None:
        """Raise `InputError` (R015) for a call that is too large.

        Intermediate values are not counted; calls under 64 MiB are not checked.
        """
        call = (outputs, capacity, *[a.shape for a in inputs.values()])
        if call in self._small:
            return
        required = self._bytes(inputs, outputs, capacity)
        if required <= 64 << 20:
            if len(self._small) >= REMEMBERED:
                self._small.clear()
            self._small.add(call)
            return
        available = available_memory()
        if available is not None and required > available:
            message = f"the call needs {required >> 20} MiB for its results, {available >> 20} MiB are free"
            raise InputError(message, code="RLX-R015", hint="use a smaller batch or shorter sequences")

    def _bytes(self, inputs: Mapping[str, Array], outputs: tuple[str, ...], capacity: int) -> int:
        graph, sizes = self._graph, {"C": capacity}
        for name, array in inputs.items():
            sizes |= dict(zip(map(str, graph.inputs[name].shape), array.shape, strict=False))
        values = [graph.outputs[name] for name in outputs if name in graph.outputs]
        values += [state.before for state in graph.states]
        known = [v for v in values if all(names(d) <= sizes.keys() for d in v.shape)]
        return sum(v.dtype.nbytes(bind_shape(v.shape, sizes)) for v in known)


@dataclass(frozen=True)
class PackedRows:
    """Decoder rows with their padding moved to the right, and where they came from.

    ids: [B, S]; lengths: i32 [B]; starts: [B], the column of each row's first token in the caller's array.
    """

    ids: Array
    lengths: Array
    starts: Array

    def unpack(self, values: Array) -> Array:
        """Values per token [B, S, …] moved back to the caller's columns; zero at padding."""
        if not self.starts.any():
            return values
        out = np.zeros_like(values)
        for row, (start, length) in enumerate(zip(self.starts, self.lengths, strict=True)):
            out[row, start : start + length] = values[row, :length]
        return out


def pack_rows(ids: Array, mask: Array | None) -> PackedRows:
    """Move each row's tokens to the left; raises `InputError` for a mask of another shape or with holes."""
    batch, width = ids.shape
    if mask is None:
        return PackedRows(ids, np.full(batch, width, np.int32), np.zeros(batch, np.int64))
    if mask.shape != ids.shape:
        message = f"attention_mask is {list(mask.shape)}, input_ids is {list(ids.shape)}"
        raise InputError(message, code="RLX-R004", hint="make the two shapes equal")
    valid = mask != 0
    lengths = valid.sum(1).astype(np.int32)
    starts = valid.argmax(1) if width else np.zeros(batch, np.int64)
    columns = np.arange(width)
    run = (columns >= starts[:, None]) & (columns < (starts + lengths)[:, None])
    if not np.array_equal(run, valid):
        row = int(np.flatnonzero((run != valid).any(1))[0])
        message = f"attention_mask of row {row} has a hole"
        raise InputError(
            message, code="RLX-R013", hint="a decoder takes padding on the left or the right only"
        )
    packed = np.zeros_like(ids)
    for row in range(batch):
        packed[row, : lengths[row]] = ids[row, starts[row] : starts[row] + lengths[row]]
    return PackedRows(packed, lengths, starts)
