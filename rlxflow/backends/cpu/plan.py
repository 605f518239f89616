"""The plan of a graph: its steps in order, where their operands lie, and what to check at each call.

A plan is plain data and has a text, which names the compiled code in caches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from rlxflow.backends.cpu.arena import Arena
from rlxflow.backends.cpu.scratch import Scratch
from rlxflow.ir.dims import Dim
from rlxflow.ir.values import Value
from rlxflow.quick_dataclass import dataclass

if TYPE_CHECKING:  # generators of code: a plan whose code is kept needs none
    from rlxflow.backends.cpu.kernels.attention import Attention
    from rlxflow.backends.cpu.kernels.cached_attention import CachedAttention
    from rlxflow.backends.cpu.kernels.delta_rule import DeltaRule
    from rlxflow.backends.cpu.kernels.gemm import Gemm
    from rlxflow.backends.cpu.kernels.merge_ranges import MergeRanges
    from rlxflow.backends.cpu.kernels.quantise import Quantise
    from rlxflow.backends.cpu.kernels.rows import Rows

    Kernel: TypeAlias = Gemm | Attention | CachedAttention | MergeRanges | DeltaRule | Rows | Quantise


@dataclass(frozen=True)
class Constant:
    """Weights as a kernel reads them: `packed` in a form for products, `row` padded for vectors, `table` as
    stored, `distances` as `relative_bias.py` says.

    Several values are joined along their first axis.
    """

    kind: Literal["packed", "row", "table", "distances"]
    values: tuple[Value, ...]
    form: str = ""


@dataclass(frozen=True)
class Given:
    """An array of the caller, from column `offset` of its rows on. A state is the whole cache."""

    kind: Literal["input", "output", "mask", "state"]
    name: str
    offset: int = 0


@dataclass(frozen=True)
class Made:
    """An array computed before every call: a row per valid token or sequence. See `host_values.py`."""

    value: Value


@dataclass(frozen=True)
class InTable:
    """An address: entry `index` of the pointer table, plus floats."""

    index: int
    offset: int = 0


@dataclass(frozen=True)
class InSlot:
    """An address: the start of a slot of the arena, plus floats."""

    index: int
    offset: int = 0


@dataclass(frozen=True)
class InFrame:
    """An address: the frame of the tokens of an axis."""

    axis: int


Address = InTable | InSlot | InFrame


@dataclass(frozen=True)
class PlanStep:
    """A kernel on its operands.

    `outputs` has bit i where output i needs the step, and the bit behind those where a cache does. It runs
    over the tokens of `axis`, an index, or over sequences.
    """

    kernel: Kernel
    addresses: tuple[Address, ...]
    outputs: int
    axis: int = 0


@dataclass(frozen=True)
class GatherCheck:
    """Ids that must lie in a table of so many rows, or (0) within the tokens of their sequence: an input by
    name, or a host value."""

    ids: str | Value
    per_token: bool
    rows: int
    outputs: int


@dataclass(frozen=True)
class Plan:
    """What the executable runs. `table` says what the pointers of a call point at.

    `labels` tells of every step the op it is named after, and its stage. Code is made of `steps`; a plan
    whose code is kept on disk has none.
    """

    labels: tuple[str, ...]
    arena: Arena
    scratch: Scratch
    table: tuple[Constant | Given | Made, ...]
    outputs: tuple[str, ...]
    checks: tuple[GatherCheck, ...]
    validity: tuple[str, ...]  # the inputs that say which tokens matter
    lengths: tuple[str | None, str] | None  # the inputs that say past_len and new_len of every sequence
    axes: tuple[Dim, ...]  # of tokens, S first
    steps: tuple[PlanStep, ...] = ()

    @property
    def forms(self) -> tuple[str, ...]:
        """The names of the forms that weights are packed in."""
        packed = (c for c in self.table if isinstance(c, Constant) and c.kind == "packed")
        return tuple(sorted({c.form for c in packed}))

    @property
    def text(self) -> str:
        """Everything that the generated code depends on."""
        steps = [(s.kernel, s.addresses, s.outputs, s.axis) for s in self.steps]
        return repr((steps, self.arena.slots, len(self.axes), self.forms))
