"""How the weights of a product are stored and multiplied: a *form*, one file each in `forms/`.

In every form a weight's row, which makes one column of the product, is a row of 32-bit words: one f32, two
halves, four int8, eight nibbles, or what a block needs beside them, such as its scale. Rows are transposed
into panels [words][panel], so that a vector of a panel holds one word of `lanes` columns, and no tile ever
sums across lanes. A new weight format is a new file: words of a row, and a tile that reads them.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Protocol

import numpy as np

from rlxflow.backends.cpu import forms
from rlxflow.backends.cpu.code import I64, PTR, Code, Module, Value, i64
from rlxflow.backends.cpu.kernels.pack import PACK, emit_pack
from rlxflow.backends.cpu.quantised import Layout
from rlxflow.backends.cpu.target import Target
from rlxflow.dtypes import Array, DType, f32

if TYPE_CHECKING:
    from rlxflow.profile.sections import PrecisionProfile

PAIRED = "f32.paired"
HALF = "bf16"  # half precision where it is safe: a weight of any size keeps its magnitude
ROW_ARGUMENTS = (PTR, I64, PTR)  # see `Form.row`


class UnpackedPanels(Protocol):
    """What a form unpacks panels to where a product has many rows: once for all of them.

    Sums are those of the form itself, bit for bit.
    """

    @property
    def name(self) -> str:
        """Of its tiles."""

    def words(self, depth: int) -> int:
        """Words of a column."""

    def tile_rows(self, target: Target) -> int:
        """As of a form."""

    def tile(self, module: Module, height: int, shared: bool) -> Value:
        """As of a form."""

    def least_rows(self, target: Target) -> int:
        """Where many begins: at half of `tile_rows`, or above."""

    def unpack(self, module: Module) -> Value:
        """The function (panel, depth, room) that writes an unpacked panel."""


class Form(Protocol):
    """A form; its module in `forms/` lists it in `FORMS`.

    - `name`: what plans call it;
    - `weights`: names of the stored dtypes that it is for;
    - `x`: how the rows of x are laid out for it, or None where they are read as f32;
    - `packer`: the name of the exported function that `pack` emits.
    """

    name: str
    weights: tuple[str, ...]
    x: Layout | None

    @property
    def packer(self) -> str: ...

    @property
    def row(self) -> Callable[[Module, int], Value] | None:
        """What reads single rows, as tables are read; None where the form does not keep weights exactly.

        (module, depth) → the function (panels, number of the row, out) that writes f32 [depth]; `out` has
        room for some more.
        """

    @property
    def unpacked(self) -> UnpackedPanels | None:
        """See there; None where tiles of any number of rows read the panels themselves."""

    @property
    def starts(self) -> Callable[[Module], Value] | None:
        """What makes the number that the sums of a row of x start from; None for 0, and with `unpacked`.

        (module) → the function (row of x, depth, out) that writes it, one f32.
        """

    def words(self, depth: int) -> int:
        """Words of a row of `depth` elements."""

    def encode(self, rows: Array) -> Array:
        """Some rows [n, depth] as `pack` reads them, C-contiguous.

        Rows come as they are stored, of a dtype in `weights` (packed ones as bytes), or as f32.
        """

    def pack(self, module: Module) -> None:
        """Emit what makes panels of rows, see `emit_pack`: of words, u32 [n, words], or of stored bytes."""

    def tile_rows(self, target: Target) -> int:
        """Rows of x of the largest tile."""

    def tile(self, module: Module, height: int, shared: bool) -> Value:
        """The micro-kernel of `height` rows, see `Tile`: it writes f32 sums.

        On its way it calls `Tile.fetch` for every word of a row.
        """


class WordForm:
    """A form whose `encode` makes the words, in NumPy."""

    packer = PACK

    def pack(self, module: Module) -> None:
        emit_pack(module)


@cache
def _forms() -> dict[str, Form]:
    names = sorted(m.name for m in pkgutil.iter_modules(forms.__path__))
    found: list[tuple[Form, ...]] = [import_module(f"{forms.__name__}.{n}").FORMS for n in names]
    return {f.name: f for group in found for f in group}


def find_form(name: str) -> Form:
    """The form that a plan names: the first word of its name is that of its module."""
    module = import_module(f"{forms.__name__}.{name.partition('.')[0]}")
    return next(form for form in module.FORMS if form.name == name)


def form_for(dtype: DType, precision: PrecisionProfile, target: Target) -> str:
    """The name of the form in which weights stored as `dtype` are multiplied.

    f32 weights take the type that the profile computes in, others stay as they are. Where the profile allows
    it, a form that reads x in less; what has no form is widened to f32.
    """
    mixed, name = precision.mixed.value, dtype.name
    if dtype == f32:
        halves = mixed == "auto" and precision.compute.value == "f32"
        name = HALF if halves else precision.compute.value
    fit = [f for f in _forms().values() if name in f.weights]
    less = [f for f in fit if f.x is not None and f.x.mixed == mixed and f.x.runs_on(target)]
    found = next((f.name for f in (*less, *fit) if f in less or f.x is None), "f32")
    return PAIRED if found == "f32" and precision.paired_products and target.sums_beside_products else found


def table_form(dtype: DType, precision: PrecisionProfile, target: Target) -> str | None:
    """The name of the form in which a table of this dtype is kept whose rows are gathered.

    That of a product with the same weights, where it can be. None where no form keeps the dtype.
    """
    chosen = find_form(form_for(dtype, precision, target))
    kept = (f for f in (chosen, *_forms().values()) if f.row is not None and dtype.name in f.weights)
    return next((f.name for f in kept), None)


def column_of(code: Code, panels: Value, row: Value, words: int) -> tuple[Value, int]:
    """Where word 0 of a row of weights lies in the panels, and the words from there to its next one."""
    panel = code.owner.target.panel
    first = code.mul(code.sdiv(row, i64(panel)), i64(words * panel))
    return code.at(panels, code.add(first, code.srem(row, i64(panel)))), panel


def words_of(rows: Array) -> Array:
    """The bytes of rows as words, padded with zeros to whole ones: u32 [n, words]."""
    raw = np.ascontiguousarray(rows).view(np.uint8).reshape(len(rows), -1)
    odd = -raw.shape[1] % 4
    return (np.pad(raw, ((0, 0), (0, odd))) if odd else raw).view(np.uint32)
