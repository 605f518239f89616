"""Embedding tables. Sizes may be left out; the weight file's header then tells them."""

from __future__ import annotations

from rlxflow.dtypes import i64
from rlxflow.flow.emit import Emit
from rlxflow.ir.values import Value
from rlxflow.ops.elementwise import add
from rlxflow.ops.leaves import iota
from rlxflow.ops.shape import gather, slice_
from rlxflow.quick_dataclass import dataclass
from rlxflow.weights.plan import WeightSpec


@dataclass(frozen=True)
class EmbedStage:
    """y = W[ids] for the active value ids, integer [B, S]; W: [vocab_size, hidden_size]."""

    key: str
    vocab_size: int | None = None
    hidden_size: int | None = None

    def weights(self) -> tuple[WeightSpec, ...]:
        return (WeightSpec(self.key, (self.vocab_size, self.hidden_size)),)

    def emit(self, e: Emit, x: Value | None) -> Value:
        return gather(e.weight(self.key), e.need(x))


@dataclass(frozen=True)
class GatherFromInputStage:
    """y = W[input] for a declared integer input [B, S]; W: [num_rows, hidden_size]."""

    input_name: str
    key: str
    num_rows: int | None = None
    hidden_size: int | None = None

    def weights(self) -> tuple[WeightSpec, ...]:
        return (WeightSpec(self.key, (self.num_rows, self.hidden_size)),)

    def emit(self, e: Emit, x: Value | None) -> Value:
        return gather(e.weight(self.key), e.input(self.input_name))


@dataclass(frozen=True)
class GatherAddStage(GatherFromInputStage):
    """y = x + W[input] (BERT's token types)."""

    def emit(self, e: Emit, x: Value | None) -> Value:
        return add(e.need(x), super().emit(e, x))


@dataclass(frozen=True)
class AddPositionsStage:
    """y[b, s] = x[b, s] + W[first_row + s], learned absolute positions; W: [num_rows, hidden_size].

    x: [B, S, H]. A `first_row` above 0 (RoBERTa) wants `num_rows` given.
    """

    key: str
    num_rows: int | None = None
    hidden_size: int | None = None
    first_row: int = 0

    def weights(self) -> tuple[WeightSpec, ...]:
        return (WeightSpec(self.key, (self.num_rows, self.hidden_size)),)

    def emit(self, e: Emit, x: Value | None) -> Value:
        x = e.need(x)
        table = e.weight(self.key)
        if self.first_row:
            if self.num_rows is None or self.first_row >= self.num_rows:
                message = f"positions start at row {self.first_row} of {self.num_rows}"
                raise e.error("RLX-F030", message, "give num_rows, above first_row")
            table = slice_(table, axis=0, start=self.first_row, stop=self.num_rows)
        return add(x, gather(table, iota(size=x.dim(1), dtype=i64)))
