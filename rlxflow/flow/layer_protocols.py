"""What a stage may say about itself beyond `Stage`: what it publishes, caches, or widens to."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol, runtime_checkable

from rlxflow.flow.emit import Emit
from rlxflow.flow.stage import Stage
from rlxflow.ir.dims import Shape
from rlxflow.ir.values import Value
from rlxflow.quick_dataclass import dataclass
from rlxflow.weights.plan import WeightSpec


@dataclass(frozen=True)
class StageArtifacts:
    """What a layer gives: the shape of its hidden state, and (name, shape) of each side output."""

    hidden: Shape
    side_outputs: tuple[tuple[str, Shape], ...] = ()

    @classmethod
    def hidden_only(cls, hidden: Shape) -> StageArtifacts:
        """A layer without side outputs."""
        return cls(hidden)

    def with_side(self, name: str, shape: Shape) -> StageArtifacts:
        """One more side output, after the others."""
        return replace(self, side_outputs=(*self.side_outputs, (name, shape)))


@dataclass(frozen=True)
class KvCacheContract:
    """The cache states of an attention: their names, and their shape [B, num_kv_heads, C, head_dim]."""

    keys: str
    values: str
    shape: Shape


@runtime_checkable
class LayerStage(Stage, Protocol):
    """A stage that says what it publishes when it gets a hidden state of this shape."""

    def artifacts(self, hidden: Shape) -> StageArtifacts: ...


@runtime_checkable
class AttentionStage(Stage, Protocol):
    """Attention: hidden state in and out. None for one that keeps no cache."""

    def cache_contract(self) -> KvCacheContract | None: ...


@runtime_checkable
class FfnStage(Stage, Protocol):
    """A feed-forward network: the shape between its projections, `UNKNOWN` where only the weights tell it."""

    def intermediate_shape(self, hidden: Shape) -> Shape: ...


@runtime_checkable
class NormStage(Stage, Protocol):
    """A normalisation; `eps` is what it adds to the variance."""

    @property
    def eps(self) -> float: ...


@dataclass(frozen=True)
class BlockAsLayer:
    """Any stage that keeps the shape of the hidden state, as a `LayerStage` without side outputs."""

    block: Stage
    name: str = "block"

    def weights(self) -> tuple[WeightSpec, ...]:
        return self.block.weights()

    def emit(self, e: Emit, x: Value | None) -> Value | None:
        return e.run(self.block, x)

    def artifacts(self, hidden: Shape) -> StageArtifacts:
        return StageArtifacts.hidden_only(hidden)
