"""Taps: inner values of a layer as outputs of the flow."""

from __future__ import annotations

from rlxflow.flow.emit import Emit
from rlxflow.flow.stage import Stage
from rlxflow.ir.values import Value
from rlxflow.quick_dataclass import dataclass
from rlxflow.weights.plan import WeightSpec


@dataclass(frozen=True)
class SideOutputs:
    """What to publish of a layer.

    `hidden`: the name under which its hidden state [B, S, H] becomes an output ("" for not). `kv`: for each
    cache that the layer writes, the rows of this call become an output of the cache's name, [B, S, Hkv, D],
    keys (rotated) before values. Nothing is computed twice; a program compiled without these outputs does
    not pay for them.
    """

    hidden: str = ""
    kv: bool = False


@dataclass(frozen=True)
class SideOutputsStage:
    """Runs a stage and publishes what `outputs` names; the value is that of the inner stage."""

    stage: Stage
    outputs: SideOutputs

    def weights(self) -> tuple[WeightSpec, ...]:
        return self.stage.weights()

    def emit(self, e: Emit, x: Value | None) -> Value | None:
        before = set(e.state.caches)
        y = e.run(self.stage, x)
        if self.outputs.hidden:
            e.output(self.outputs.hidden, e.need(y))
        if self.outputs.kv:
            for name, cache in e.state.caches.items():
                if name not in before:
                    e.output(name, cache.after.node.inputs[1])  # what cache_append was given
        return y
