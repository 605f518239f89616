"""What kernels are told about the rows they run over: a small array of words, one per thread.

A call is cut into *chunks* of whole sequences. Within a chunk, rows count from 0: token rows are the valid
tokens of its sequences one after the other, sequence rows are the sequences. Where a graph has tokens of
several axes, there is a frame for each, one behind the other.
"""

from __future__ import annotations

from enum import IntEnum, auto
from typing import Any

from rlxflow.backends.cpu.code import I64, PTR, Code, Value, i64


class Frame(IntEnum):
    """Words of the frame, 8 bytes each."""

    TOKENS = 0  # token rows of this chunk
    SEQUENCES = auto()
    FIRST_TOKEN = auto()  # of this chunk among all tokens of the call
    FIRST_SEQUENCE = auto()
    PART = auto()  # this thread's part of a step …
    PARTS = auto()  # … of so many
    THREAD = auto()  # the number of this thread …
    THREADS = auto()  # … of so many that do the parts
    SOURCE = auto()  # i32*: token row → its row in the arrays of the caller, b·S + s
    POSITION = auto()  # i32*: token row → position in its sequence, what is in the cache included
    SEQUENCE = auto()  # i32*: token row → sequence, counted over the call
    OFFSETS = auto()  # i32*: sequence row → its first token, counted over the call
    BATCH_ROW = auto()  # i32*: sequence row → its row in the arrays of the caller
    SCRATCH = auto()  # memory of this thread
    SLOTS = auto()  # the buffers of this chunk
    TOKEN_CAPACITY = auto()  # rows that the buffers have
    SEQUENCE_CAPACITY = auto()
    CACHE_CAPACITY = auto()  # positions that the caches have
    COUNTERS = auto()  # of the parts of every step, see kernels/sync.py
    SIZE = auto()


POINTERS = {Frame.SOURCE, Frame.POSITION, Frame.SEQUENCE, Frame.OFFSETS, Frame.BATCH_ROW,
            Frame.SCRATCH, Frame.SLOTS, Frame.COUNTERS}  # fmt: skip


def read(code: Code, frame: Value, word: Frame) -> Value:
    kind: Any = PTR if word in POINTERS else I64
    return code.get(code.at(frame, int(word), I64), 0, kind)


def frame_of(code: Code, frame: Value, axis: int) -> Value:
    """The frame `axis` frames behind another one (in front of it, where negative)."""
    return code.at(frame, axis * Frame.SIZE, I64) if axis else frame


def share(code: Code, frame: Value, count: Value) -> tuple[Value, Value]:
    """The range [low, high) of `count` items that is this thread's part of a step.

    Parts of a thread's run become smaller: of n, part k ends (n - k - 1)² / n² of the run before its end. So
    most items come in few parts, and little is left to wait for at the end.
    """
    part, parts = read(code, frame, Frame.PART), read(code, frame, Frame.PARTS)
    size = code.maximum(code.sdiv(parts, read(code, frame, Frame.THREADS)), i64(1))
    square = code.mul(size, size)
    run, number = code.sdiv(part, size), code.srem(part, size)
    whole = code.mul(code.sdiv(parts, size), square)

    def start(number: Value) -> Value:
        left = code.sub(size, number)
        before = code.sub(code.mul(code.add(run, i64(1)), square), code.mul(left, left))
        return code.sdiv(code.mul(count, before), whole)

    return start(number), start(code.add(number, i64(1)))
