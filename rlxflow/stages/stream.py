"""Named streams: values kept aside by name, for models with two or more lines of activations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeAlias

from rlxflow.errors import nearest
from rlxflow.flow.emit import Emit
from rlxflow.ir.dims import shape_text, shapes_agree
from rlxflow.ir.values import Value
from rlxflow.quick_dataclass import dataclass
from rlxflow.weights.plan import WeightSpec, weight_specs

DualFunction: TypeAlias = Callable[[Emit, Value, Value], tuple[Value, Value]]


class stream_id:
    """The usual names of streams; any other text is a name too."""

    MAIN: Final = "main"
    IMG: Final = "img"
    TXT: Final = "txt"


@dataclass(frozen=True)
class StoreStreamStage:
    """Keep the active value under a name; it flows on. A stream keeps the shape of its first value."""

    stream: str

    def weights(self) -> tuple[WeightSpec, ...]:
        return ()

    def emit(self, e: Emit, x: Value | None) -> Value | None:
        x = e.need(x)
        store(e, self.stream, x)
        return x


@dataclass(frozen=True)
class LoadStreamStage:
    """The value stored under a name becomes the active value."""

    stream: str

    def weights(self) -> tuple[WeightSpec, ...]:
        return ()

    def emit(self, e: Emit, x: Value | None) -> Value:
        return load(e, self.stream)


@dataclass(frozen=True)
class BindInputsToStreamsStage:
    """For each pair (input, stream), the declared input becomes that stream; the active value passes."""

    pairs: tuple[tuple[str, str], ...]

    def weights(self) -> tuple[WeightSpec, ...]:
        return ()

    def emit(self, e: Emit, x: Value | None) -> Value | None:
        for input_name, stream in self.pairs:
            store(e, stream, e.input(input_name))
        return x


@dataclass(frozen=True)
class DualStreamStage:
    """(a, b) ← function(e, a, b) on two streams; the active value passes. Both keep their shapes.

    The function reads the weights that `specs` lists. Stages are equal if their functions are the same.
    """

    name: str
    a: str
    b: str
    function: DualFunction
    specs: tuple[WeightSpec, ...] = ()

    def weights(self) -> tuple[WeightSpec, ...]:
        return self.specs

    def emit(self, e: Emit, x: Value | None) -> Value | None:
        after = self.function(e, load(e, self.a), load(e, self.b))
        if not isinstance(after, tuple) or len(after) != 2 or not all(isinstance(v, Value) for v in after):
            hint = f"return the new {self.a!r} and {self.b!r}"
            raise e.error("RLX-F009", "the function of a dual stream gave no pair of values", hint)
        for stream, value in zip((self.a, self.b), after, strict=True):
            store(e, stream, value)
        return x


def dual_stream_stage(
    name: str,
    a: str,
    b: str,
    function: DualFunction,
    weights: Mapping[str, tuple[int | None, ...]] | Iterable[WeightSpec] = (),
) -> DualStreamStage:
    """A `DualStreamStage` whose weights are given as specs or as {key: shape}."""
    return DualStreamStage(name, a, b, function, weight_specs(weights))


def store(e: Emit, stream: str, x: Value) -> None:
    """Make `x` the value of a stream; it must have the shape of the one before."""
    held = e.state.streams.get(stream, x)
    if not shapes_agree(held.shape, x.shape):
        shapes = f"holds {shape_text(held.shape)}, not {shape_text(x.shape)}"
        raise e.error("RLX-F020", f"stream {stream!r} {shapes}", "use another stream name")
    e.state.streams[stream] = x


def load(e: Emit, stream: str) -> Value:
    """The value of a stream; raises where it was never stored."""
    if stream not in e.state.streams:
        hint = nearest(stream, e.state.streams) or f"put store_stream({stream!r}) before it"
        raise e.error("RLX-F021", f"stream {stream!r} was never stored", hint)
    return e.state.streams[stream]
