"""What the generator must know of a processor: vector width, registers, tile sizes."""

from __future__ import annotations

from collections.abc import Mapping

from rlxflow.quick_dataclass import dataclass


@dataclass(frozen=True)
class Target:
    """A processor as the kernels see it.

    - `lanes`: f32 lanes of a vector;
    - `tile_rows`: rows of the largest register tile of the matrix product; a tile is two vectors wide, so
      it takes 2·tile_rows accumulators, two vectors of weights and one broadcast;
    - `query_rows`: queries that attention scores at once, against two vectors of keys;
    - `triple`, `cpu`, `features`: what LLVM is told.
    """

    name: str
    lanes: int
    tile_rows: int
    query_rows: int
    fma: bool
    triple: str
    cpu: str
    features: str

    @property
    def sums_beside_products(self) -> bool:
        """Whether a vector of sums is made beside every one of products: Zen has units for each.

        That pays with 32 registers, and loads that broadcast."""
        return self.name == "avx512" and self.cpu.startswith("znver")

    @property
    def panel(self) -> int:
        """Columns of a packed panel of weights: the width of a tile."""
        return 2 * self.lanes

    def has(self, feature: str) -> bool:
        """Whether code may use an instruction set, by LLVM's name for it."""
        return f"+{feature}" in self.features.split(",")

    def row_stride(self, width: int) -> int:
        """Floats between the rows of a buffer of `width` columns.

        Rows are padded to whole panels, so that tiles may be stored whole, and hold an odd number of cache
        lines, so that the rows of a tile fall into different cache sets.
        """
        panels = -(-width // self.panel) * self.panel
        lines = -(-panels // 16)
        return 16 * (lines + 1 - lines % 2)


# 32 registers of 16 lanes; 16 registers of 8 lanes; 32 registers of 4 lanes
SHAPES = {"avx512": (16, 14, 8), "avx2": (8, 6, 4), "vector128": (4, 8, 8)}


def choose(triple: str, cpu: str, features: Mapping[str, bool], name: str | None = None) -> Target:
    """The target for these features; `name` asks for a narrower one than the processor offers."""
    if name is None:
        wide = all(features.get(f) for f in ("avx512f", "avx512vl", "avx512dq", "avx512bw"))
        name = "avx512" if wide else "avx2" if features.get("avx2") and features.get("fma") else "vector128"
    off = {"prefer-256-bit"}
    if name != "avx512":
        off |= {f for f in features if f.startswith("avx512")}
    if name == "vector128":
        off |= {f for f in features if f.startswith("avx") and f != "avx"}
    text = ",".join(f"{'+' if on and f not in off else '-'}{f}" for f, on in sorted(features.items()))
    lanes, rows, queries = SHAPES[name]
    fma = bool(features.get("fma", True))  # processors that do not list it (NEON) have it
    return Target(name, lanes, rows, queries, fma, triple, cpu, text)
