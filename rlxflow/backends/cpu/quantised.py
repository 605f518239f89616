"""Activations as int8: how a row is laid out. `kernels/quantise.py` writes it, tiles of forms read it."""

from __future__ import annotations

from dataclasses import dataclass

PIECE = 16  # bytes that are written together, at most


@dataclass(frozen=True)
class Quantised:
    """A row is blocks, one after the other; each is words of 4 bytes:

    - its scale s, f32: max|x| / 127, so that x ≈ s·q;
    - the sum Σ q, i32, of each of its groups (for weights that are stored with an offset);
    - its q, int8 in -127 … 127, four to a word; zeros up to a multiple of 16 of them.

    `block` and `group` count elements and are multiples of 16; 0 is the whole row.
    """

    block: int = 0
    group: int = 0

    def block_size(self, depth: int) -> int:
        """Elements of a block in rows of `depth`."""
        return self.block or depth

    def groups(self, depth: int) -> int:
        """Sums of a block."""
        return self.block_size(depth) // (self.group or self.block_size(depth)) if depth else 1

    @property
    def sums_at(self) -> int:
        """The word of a block where its sums begin."""
        return 1

    def values_at(self, depth: int) -> int:
        """The word of a block where its q begin."""
        return 1 + self.groups(depth)

    def block_words(self, depth: int) -> int:
        size = self.block_size(depth)
        return self.values_at(depth) + -(-size // PIECE) * (PIECE // 4)

    def row_words(self, depth: int) -> int:
        blocks = depth // self.block if self.block else 1
        return blocks * self.block_words(depth)
