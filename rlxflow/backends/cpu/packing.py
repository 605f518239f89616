"""The weights of a plan as its kernels read them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from rlxflow.backends.cpu.constants import Constants
from rlxflow.backends.cpu.form import Form, WordForm, find_form
from rlxflow.backends.cpu.memory import Room
from rlxflow.backends.cpu.plan import Constant
from rlxflow.backends.cpu.relative_bias import bias_rows, buckets_of, table_of
from rlxflow.backends.cpu.target import Target
from rlxflow.dequantize import dequantize
from rlxflow.dtypes import Array, DType
from rlxflow.ir.values import Value

ROWS_AT_A_TIME = 512  # a multiple of every panel; so many encoded rows are all that is held beside
Pack = Callable[[Form, Array, Array], None]  # encoded rows [n, …] to panels [n / panel, words, panel]


def prepare_all(
    wanted: Iterable[Constant], constants: Constants, target: Target, pack: Pack, threads: int
) -> dict[Constant, Array]:
    """The arrays of all constants, by so many threads.

    The largest come first: what a thread reads is held beside what it makes, and at the end that is little.
    """
    order, room = sorted(wanted, key=_elements, reverse=True), Room()
    with ThreadPoolExecutor(threads) as pool:
        arrays = pool.map(lambda constant: prepare(constant, constants, target, pack, room), order)
        return dict(zip(order, arrays, strict=True))


def _elements(constant: Constant) -> int:
    return sum(math.prod(n for n in v.shape if isinstance(n, int)) for v in constant.values)


def prepare(constant: Constant, constants: Constants, target: Target, pack: Pack, room: Room) -> Array:
    """The array of one constant: packed into panels, padded at the end, or as it is."""
    if constant.kind == "distances":
        (bias,) = constant.values
        buckets = buckets_of(bias)
        assert buckets is not None  # checked when the plan was made
        return bias_rows(buckets, constants.read(table_of(bias)), target.lanes)
    if constant.kind == "packed":
        return _packed(constant, constants, target, pack, room)
    parts = [constants.read(v) for v in constant.values]
    if constant.kind == "table":
        return parts[0].astype(np.float32, copy=False)
    whole = np.concatenate(parts) if len(parts) > 1 else parts[0]
    whole = np.ascontiguousarray(whole, np.float32)
    padded = room.aligned((whole.size + 2 * target.panel,))
    padded[: whole.size] = whole.ravel()
    return padded


def _packed(constant: Constant, constants: Constants, target: Target, pack: Pack, room: Room) -> Array:
    form, panel = find_form(constant.form), target.panel
    columns = sum(_rows(v) for v in constant.values)
    depth = constant.values[0].shape[1]
    assert isinstance(depth, int)
    packed = room.aligned((-(-columns // panel), form.words(depth), panel), np.uint32)
    start = 0
    for rows in _encoded_rows(constant.values, constants, form):
        if rows.size:
            pack(form, rows, packed[start // panel : -(-(start + len(rows)) // panel)])
        start += len(rows)
    return packed


def _encoded_rows(values: tuple[Value, ...], constants: Constants, form: Form) -> Iterator[Array]:
    """The rows of all weights, encoded, so many at a time."""
    held: list[Array] = []
    for value in values:
        dtype, array = constants.stored(value)
        start = 0
        while start < len(array):
            room = ROWS_AT_A_TIME - sum(map(len, held))
            if not (held or isinstance(form, WordForm)):  # these rows are read where they are
                room = max(room, (len(array) - start) // room * room)
            held.append(_encoded(form, dtype, array[start : start + room]))
            start += room
            if sum(map(len, held)) % ROWS_AT_A_TIME == 0:
                yield np.concatenate(held) if len(held) > 1 else held[0]
                held = []
    if held:
        yield np.concatenate(held) if len(held) > 1 else held[0]


def _encoded(form: Form, dtype: DType, rows: Array) -> Array:
    if dtype.packed and dtype.name not in form.weights:
        rows = dequantize(dtype, rows)
    return form.encode(rows)


def _rows(value: Value) -> int:
    size = value.shape[0]
    assert isinstance(size, int)
    return size
