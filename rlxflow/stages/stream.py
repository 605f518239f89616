"""Named streams: values kept aside by name."""

from __future__ import annotations

from dataclasses import dataclass

from rlxflow.errors import nearest
from rlxflow.flow.emit import Emit
from rlxflow.ir.dims import shape_text, shapes_agree
from rlxflow.ir.values import Value
from rlxflow.weights.plan import WeightSpec


@dataclass(frozen=True)
class StoreStreamStage:
    """Keep the active value under a name; it flows on. A stream keeps the shape of its first value."""

    stream: str

    def weights(self) -> tuple[WeightSpec, ...]:
        return ()

    def emit(self, e: Emit, x: Value | None) -> Value | None:
        x = e.need(x)
        held = e.state.streams.get(self.stream, x)
        if not shapes_agree(held.shape, x.shape):
            shapes = f"holds {shape_text(held.shape)}, not {shape_text(x.shape)}"
            raise e.error("RLX-F020", f"stream {self.stream!r} {shapes}", "use another stream name")
        e.state.streams[self.stream] = x
        return x


@dataclass(frozen=True)
class LoadStreamStage:
    """The value stored under a name becomes the active value."""

    stream: str

    def weights(self) -> tuple[WeightSpec, ...]:
        return ()

    def emit(self, e: Emit, x: Value | None) -> Value:
        if self.stream not in e.state.streams:
            hint = nearest(self.stream, e.state.streams) or f"put store_stream({self.stream!r}) before it"
            raise e.error("RLX-F021", f"stream {self.stream!r} was never stored", hint)
        return e.state.streams[self.stream]
