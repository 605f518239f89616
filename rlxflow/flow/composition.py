"""`LayerComposition`: the layers of a model as plain data, for cache keys and for recipes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from rlxflow.errors import FlowError
from rlxflow.flow.layer_stack import LayerStack
from rlxflow.flow.stage import Stage
from rlxflow.quick_dataclass import dataclass


@dataclass(frozen=True)
class LayerComposition:
    """Runs of equal layers, in order: ((layer name, how many), …).

    >>> LayerComposition.pair(LayerComposition.single("dense"), LayerComposition.homogeneous("moe", 3))
    LayerComposition(runs=(('dense', 1), ('moe', 3)))

    Pairs of pairs are flat, so equal stacks are equal however they were put together.
    """

    runs: tuple[tuple[str, int], ...]

    def __post_init__(self) -> None:
        for name, count in self.runs:
            if not name or isinstance(count, bool) or not isinstance(count, int) or count < 0:
                raise FlowError(
                    f"{count} layers named {name!r} are no layers",
                    code="RLX-F017",
                    where="LayerComposition",
                    hint="give a name, and a count of 0 or more",
                )

    @classmethod
    def single(cls, name: str) -> LayerComposition:
        """One layer."""
        return cls(((name, 1),))

    @classmethod
    def homogeneous(cls, layer_name: str, count: int) -> LayerComposition:
        """`count` equal layers."""
        return cls(((layer_name, count),))

    @classmethod
    def pair(cls, head: LayerComposition, tail: LayerComposition) -> LayerComposition:
        """The layers of `head`, then those of `tail`."""
        return cls((*head.runs, *tail.runs))

    def depth_hint(self) -> int:
        """How many layers there are."""
        return sum(count for _, count in self.runs)

    def cache_key(self) -> str:
        """16 hex digits that tell compositions apart, the same in every process."""
        return hashlib.blake2b(repr(self.runs).encode(), digest_size=8, person=b"rlx-layers-1").hexdigest()

    def to_flow_stage(self, build_layer: Callable[[str, int], Stage], name: str = "layers") -> LayerStack:
        """`build_layer(layer name, index)` for each layer, indices counting through, as one stage."""
        names = [layer for layer, count in self.runs for _ in range(count)]
        layers = [LayerStack(f"{layer}.{i}").stage(build_layer(layer, i)) for i, layer in enumerate(names)]
        return LayerStack(name).append(layers)
