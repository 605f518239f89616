"""A call as its threads see it: what they share, word by word."""

from __future__ import annotations

from enum import IntEnum, auto

from rlxflow.backends.cpu.frame import Frame

COUNTER_WORDS = 8  # a cache line; a step has one for each thread and another, see kernels/sync.py


class Job(IntEnum):
    """What the threads of one call share: words of 8 bytes."""

    TABLE = 0  # void**: see Plan.table
    CHUNKS = auto()  # i64*: first sequence of every chunk, and behind it the number of sequences
    NUM_CHUNKS = auto()
    NEXT = auto()  # the chunk that nobody has taken
    TOGETHER = auto()  # not 0: all threads work on one chunk at a time, step by step …
    PARTS = auto()  # … each cut into so many parts …
    THREADS = auto()  # … done by so many threads
    PLACES = auto()  # void**: per thread its frame, its scratch and its arena
    WANTED = auto()  # bit per output
    SEQUENCE_CAPACITY = auto()
    CACHE_CAPACITY = auto()
    COUNTERS = auto()  # i64*: zeros, lines of COUNTER_WORDS per chunk and step
    AXES = auto()  # from here on the AXIS_WORDS of every axis of tokens


AXIS_WORDS = (
    Frame.SOURCE,
    Frame.POSITION,
    Frame.SEQUENCE,
    Frame.OFFSETS,
    Frame.BATCH_ROW,
    Frame.TOKEN_CAPACITY,
)
