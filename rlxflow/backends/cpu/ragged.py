"""The valid tokens of a batch, one after the other: where they come from, and how they are cut up."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rlxflow.dtypes import Array
from rlxflow.errors import InputError
from rlxflow.ir.dims import Dim, bind_shape
from rlxflow.quick_dataclass import dataclass

UNEVEN = 1.15  # time lost to waiting that is worth working together, step by step
MOST_ROWS = 2**31 - 1  # row numbers are 32 bits wide
MASK_SLACK = 128  # kernels look at a block of keys at the last token


@dataclass(frozen=True)
class Ragged:
    """The rows of a call. Sequences without a valid token are left out.

    source [T]: token → b·S + s; position [T]: its place in its sequence; sequence [T]: which sequence;
    offsets [n + 1]: the first token of each sequence; batch_row [n]: its row in the batch. All i32.
    """

    source: Array
    position: Array
    sequence: Array
    offsets: Array
    batch_row: Array
    longest: int
    padded: bool  # whether the batch has tokens or sequences that are left out

    @property
    def tokens(self) -> int:
        return len(self.source)

    @property
    def sequences(self) -> int:
        return len(self.batch_row)


def compact(masks: list[Array], batch: int, tokens: int) -> Ragged:
    """The tokens from the first to the last one that any mask [B, S] or count [B] calls valid; else all."""
    masks = [_counted(m, tokens) if m.ndim == 1 else m for m in masks]
    if batch == 1 or not tokens:
        return _compact_one([m[:1] for m in masks if batch], tokens if batch else 0, batch)
    if masks:
        valid = np.logical_or.reduce([m != 0 for m in masks]) if len(masks) > 1 else masks[0] != 0
        starts = valid.argmax(1)
        lengths = np.where(valid.any(1), tokens - valid[:, ::-1].argmax(1) - starts, 0)
    else:
        starts, lengths = np.zeros(batch, np.int64), np.full(batch, tokens)
    rows = np.flatnonzero(lengths)
    if len(rows) < batch:
        starts, lengths = starts[rows], lengths[rows]
    offsets = np.zeros(len(rows) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    sequence = np.repeat(np.arange(len(rows), dtype=np.int32), lengths)
    position = np.arange(offsets[-1], dtype=np.int32) - offsets[sequence]
    source = (rows * tokens + starts).astype(np.int32)[sequence] + position
    padded = len(source) < batch * tokens
    return Ragged(
        source, position, sequence, offsets, rows.astype(np.int32), int(lengths.max(initial=0)), padded
    )


def whole(batch: int, tokens: int) -> Ragged:
    """Every token of every sequence."""
    rows, offsets = np.arange(batch, dtype=np.int32), np.arange(batch + 1, dtype=np.int32) * np.int32(tokens)
    source, sequence = np.arange(batch * tokens, dtype=np.int32), np.repeat(rows, tokens)
    return Ragged(source, source - offsets[sequence], sequence, offsets, rows, tokens, False)


def _counted(counts: Array, tokens: int) -> Array:
    """The mask of the first so many tokens."""
    if ((counts < 0) | (counts > tokens)).any():
        message = f"new_len is {counts.tolist()}, of {tokens} tokens"
        raise InputError(message, code="RLX-R008", hint=f"give numbers from 0 to {tokens}")
    return np.less(np.arange(tokens), counts[:, None])


def _compact_one(masks: list[Array], tokens: int, batch: int) -> Ragged:
    """The same for one sequence, in a few steps: short calls feel them."""
    start, stop = 0, tokens
    if masks:
        valid = (
            np.concatenate([m[0].nonzero()[0] for m in masks]) if len(masks) > 1 else masks[0][0].nonzero()[0]
        )
        start, stop = (int(valid.min()), int(valid.max()) + 1) if len(valid) else (0, 0)
    length = stop - start
    position = np.arange(length, dtype=np.int32)
    source = position + np.int32(start) if start else position
    some = np.zeros(min(length, 1), np.int32)
    offsets = np.array([0, length][: len(some) + 1], np.int32)
    return Ragged(
        source,
        position,
        np.zeros(length, np.int32),
        offsets,
        some,
        length,
        length < tokens or len(some) < batch,
    )


def mask_rows(mask: Array, ragged: Ragged) -> Array:
    """A mask [B, S] as one float per token, 1 where it is valid."""
    rows = np.zeros(ragged.tokens + MASK_SLACK, np.float32)
    np.not_equal(mask.ravel()[ragged.source], 0, out=rows[: ragged.tokens], casting="unsafe")
    return rows


def cut(ragged: Ragged, threads: int, most: int) -> Array:
    """Chunks of whole sequences: their first sequences, and behind them the number of all.

    As many equal chunks per thread as bring them to about `most` tokens.
    """
    if ragged.sequences <= 1 or (threads == 1 and ragged.tokens <= most):
        return np.array([0, ragged.sequences], np.int64)
    rounds = -(-ragged.tokens // (threads * most))
    wanted = ragged.tokens / (threads * rounds)
    ends = ragged.offsets[1:]
    marks = np.arange(1, threads * rounds) * wanted
    edges = np.searchsorted(ends, marks + ragged.longest / 2, side="left")
    return np.unique(np.array([0, *edges, ragged.sequences], np.int64))


def uneven(ragged: Ragged, chunks: Array, threads: int) -> bool:
    """Whether threads that take chunk after chunk would wait for the last one for long."""
    if len(chunks) - 1 < threads:
        return True
    loads = [0] * threads
    for size in np.diff(ragged.offsets[chunks]).tolist():
        loads[loads.index(min(loads))] += size
    return max(loads) * threads > UNEVEN * ragged.tokens


def chunk_rows(ragged: Ragged, chunks: Array) -> tuple[int, int]:
    """The most token rows and sequence rows of any chunk."""
    if len(chunks) == 2:
        return ragged.tokens, ragged.sequences
    return int(np.diff(ragged.offsets[chunks]).max()), int(np.diff(chunks).max())


def sizes_of(sizes: Mapping[str, int], axes: tuple[Dim, ...]) -> tuple[int, tuple[int, ...]]:
    """Batch and tokens of each axis; a graph without token axis has one token per sequence."""
    batch, first = sizes["B"], sizes.get("S", 1)
    tokens = (first,) if len(axes) == 1 else (first, *bind_shape(axes[1:], sizes))
    if batch * max(tokens) > MOST_ROWS:
        message = f"a batch of {batch} sequences of {max(tokens)} tokens is too large"
        raise InputError(message, code="RLX-R015", hint="use a smaller batch or shorter sequences")
    return batch, tokens
