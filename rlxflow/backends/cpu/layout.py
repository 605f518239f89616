"""Where the rows of a call lie and who works on them; remembered, for short calls feel the time it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from rlxflow.backends.cpu.memory import address
from rlxflow.backends.cpu.plan import Constant, Given, Made
from rlxflow.backends.cpu.ragged import Ragged, chunk_rows, compact, cut, mask_rows, uneven, whole
from rlxflow.dtypes import Array
from rlxflow.ir.values import Value
from rlxflow.quick_dataclass import dataclass

CHUNK_TOKENS = 256  # the activations of so many tokens stay near the processor
FEW_TOKENS = 64  # per thread: the weights of a decoder are read once for all rather than by every thread
KEPT_TOKENS = 1024  # layouts of up to so many positions are remembered …
KEPT_LAYOUTS = 256  # … and so many of them


@dataclass(frozen=True, eq=False)
class Layout:
    """The rows of a call, cut into chunks of at most `counts` rows: of sequences, then of tokens per axis.

    `together`: all threads work on one chunk at a time. `masks` are the rows of masks, see `mask_rows`.
    """

    axes: tuple[Ragged, ...]
    chunks: Array
    together: bool
    counts: tuple[int, ...]
    masks: Mapping[str, Array]
    mask_addresses: Mapping[str, int]
    chunks_address: int
    row_addresses: tuple[tuple[int, ...], ...]  # per axis of the arrays of its `Ragged`, in their order
    known: dict[Value, Array] = field(default_factory=dict)  # host values that follow from the layout
    checked: set[int] = field(default_factory=set)  # outputs for which they have been checked

    @property
    def ragged(self) -> Ragged:
        """The tokens of S."""
        return self.axes[0]

    @property
    def arrays(self) -> list[Array]:
        """What generated code reads."""
        return [self.chunks, *(a for r in self.axes for a in _arrays(r)), *self.masks.values()]


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
        self._kept: dict[tuple[int, tuple[int, ...], tuple[bytes, ...]], Layout] = {}

    def of(self, inputs: Mapping[str, Array], batch: int, tokens: tuple[int, ...]) -> Layout:
        """The layout of a call with so many tokens per sequence on each axis."""
        if batch * max(tokens) > KEPT_TOKENS:
            return self._make(inputs, batch, tokens)
        key = (batch, tokens, tuple([inputs[name].tobytes() for name in self._deciding]))
        layout = self._kept.get(key)
        if layout is None:
            if len(self._kept) >= KEPT_LAYOUTS:
                self._kept.clear()
            layout = self._kept[key] = self._make(inputs, batch, tokens)
        return layout

    def _make(self, inputs: Mapping[str, Array], batch: int, tokens: tuple[int, ...]) -> Layout:
        masks_given = [inputs[name] for name in self._validity]
        alone = len(tokens) == 1
        axes = tuple(compact(masks_given, batch, n) if alone else whole(batch, n) for n in tokens)
        ragged = max(axes, key=lambda r: r.tokens)
        few = self._decodes and ragged.tokens <= FEW_TOKENS * self._threads
        chunks = cut(ragged, 1 if few else self._threads, CHUNK_TOKENS)
        together = self._threads > 1 and uneven(ragged, chunks, self._threads)
        masks = {name: mask_rows(inputs[name], axes[0]) for name in self._masks}
        counts = (chunk_rows(ragged, chunks)[1], *(chunk_rows(r, chunks)[0] for r in axes))
        return Layout(
            axes, chunks, together, counts, masks,
            {name: address(mask) for name, mask in masks.items()}, address(chunks),
            tuple(tuple(map(address, _arrays(r))) for r in axes),
        )  # fmt: skip


def _arrays(r: Ragged) -> tuple[Array, ...]:
    return r.source, r.position, r.sequence, r.offsets, r.batch_row
