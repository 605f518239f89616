"""Where the rows of a call lie and who works on them; remembered, for short calls feel the time it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rlxflow.backends.cpu.memory import address
from rlxflow.backends.cpu.plan import Constant, Given, Made
from rlxflow.backends.cpu.ragged import Ragged, chunk_rows, compact, cut, mask_rows, uneven
from rlxflow.dtypes import Array
from rlxflow.ir.values import Value

CHUNK_TOKENS = 256  # the activations of so many tokens stay near the processor
FEW_TOKENS = 64  # per thread: the weights of a decoder are read once for all rather than by every thread
KEPT_TOKENS = 1024  # layouts of up to so many positions are remembered …
KEPT_LAYOUTS = 256  # … and so many of them


@dataclass(frozen=True, eq=False)
class Layout:
    """The rows of a call, cut into chunks of at most `tokens` token rows and `sequences` sequence rows.

    `together`: all threads work on one chunk at a time. `masks` are the rows of masks, see `mask_rows`.
    """

    ragged: Ragged
    chunks: Array
    together: bool
    tokens: int
    sequences: int
    masks: Mapping[str, Array]
    mask_addresses: Mapping[str, int]
    chunks_address: int
    row_addresses: tuple[int, ...]  # of the arrays of `ragged`, in the order of its fields
    known: dict[Value, Array] = field(default_factory=dict)  # host values that follow from the layout
    checked: set[int] = field(default_factory=set)  # outputs for which they have been checked

    @property
    def arrays(self) -> list[Array]:
        """What generated code reads."""
        r = self.ragged
        rows = [r.source, r.position, r.sequence, r.offsets, r.batch_row]
        return [self.chunks, *rows, *self.masks.values()]


class Layouts:
    """Makes layouts, and keeps those of small calls by the content of their masks."""

    def __init__(
        self,
        validity: tuple[str, ...],
        table: tuple[Constant | Given | Made, ...],
        threads: int,
        decodes: bool,
    ) -> None:
        self._validity, self._threads, self._decodes = validity, threads, decodes
        self._masks = [item.name for item in table if isinstance(item, Given) and item.kind == "mask"]
        self._deciding = list(dict.fromkeys([*validity, *self._masks]))
        self._kept: dict[tuple[int, int, tuple[bytes, ...]], Layout] = {}

    def of(self, inputs: Mapping[str, Array], batch: int, tokens: int) -> Layout:
        """The layout of a call."""
        if batch * tokens > KEPT_TOKENS:
            return self._make(inputs, batch, tokens)
        key = (batch, tokens, tuple([inputs[name].tobytes() for name in self._deciding]))
        layout = self._kept.get(key)
        if layout is None:
            if len(self._kept) >= KEPT_LAYOUTS:
                self._kept.clear()
            layout = self._kept[key] = self._make(inputs, batch, tokens)
        return layout

    def _make(self, inputs: Mapping[str, Array], batch: int, tokens: int) -> Layout:
        ragged = compact([inputs[name] for name in self._validity], batch, tokens)
        few = self._decodes and ragged.tokens <= FEW_TOKENS * self._threads
        chunks = cut(ragged, 1 if few else self._threads, CHUNK_TOKENS)
        together = self._threads > 1 and uneven(ragged, chunks, self._threads)
        masks = {name: mask_rows(inputs[name], ragged) for name in self._masks}
        rows = (ragged.source, ragged.position, ragged.sequence, ragged.offsets, ragged.batch_row)
        return Layout(
            ragged, chunks, together, *chunk_rows(ragged, chunks), masks,
            {name: address(mask) for name, mask in masks.items()}, address(chunks),
            tuple(map(address, rows)),
        )  # fmt: skip
