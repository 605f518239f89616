"""`Emit`: the hands of a stage while it writes its ops. Also the tier-2 door to the raw graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import field

from rlxflow.dtypes import DType, f32
from rlxflow.errors import FlowError, RlxError, nearest, printable, raised_at
from rlxflow.flow.stage import Stage, stage_label
from rlxflow.flow.state import FlowState
from rlxflow.ir.builder import GraphBuilder
from rlxflow.ir.dims import Shape, dim
from rlxflow.ir.graph import State
from rlxflow.ir.values import Type, Value
from rlxflow.ops.cache import cache_append
from rlxflow.ops.leaves import param, state
from rlxflow.quick_dataclass import dataclass


@dataclass(frozen=True)
class Problem:
    """One wiring error: code, what is wrong, the stage's path, and the remedy."""

    code: str
    message: str
    where: str
    hint: str
    cause: Exception | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        remedy = f"   ({self.hint})" if self.hint else ""
        return f"{self.code}  {self.where}: {self.message}{remedy}"


class _NoValue(Exception):
    """A stage had no value because an earlier one failed; that one is reported, this one is not."""


class Emit:
    """Access to weights, inputs, shared state and the graph under construction."""

    def __init__(
        self,
        builder: GraphBuilder,
        weights: Mapping[str, tuple[str, Type] | None],
        inputs: Mapping[str, Value],
        kv_dtype: DType = f32,
    ) -> None:
        self.builder = builder
        self.state = FlowState()
        self.inputs = inputs
        self.path = ""
        self.problems: list[Problem] = []
        self.trace: list[tuple[str, Value | None]] = []
        self._weights = weights
        self._kv_dtype = kv_dtype
        self.lost_value = False

    def error(self, code: str, message: str, hint: str = "") -> FlowError:
        """A wiring error at this stage."""
        return FlowError(message, code=code, where=self.path, hint=hint)

    def need(self, x: Value | None) -> Value:
        """The active value; raises where there is none."""
        if x is None:
            if self.lost_value:
                raise _NoValue
            raise self.error(
                "RLX-F001", "nothing flows into this stage", "start with an input and an embedding"
            )
        return x

    def weight(self, key: str) -> Value:
        """The weight of this key, as it is stored ([out, in] for linear layers)."""
        found = self.optional_weight(key)
        if found is None:
            raise self.error("RLX-F002", f"weight {key!r} is optional and absent", "use optional_weight")
        return found

    def optional_weight(self, key: str) -> Value | None:
        """The weight of this key, or None where it is optional and the source does not have it."""
        if key not in self._weights:
            hint = nearest(str(key), self._weights) or "list it in the stage's weights()"
            raise self.error("RLX-F003", f"weight {key!r} is not declared by any stage", hint)
        found = self._weights[key]
        if found is None:
            return None
        stored, type = found
        return param(key=stored, dtype=type.dtype, shape=type.shape)

    def input(self, name: str) -> Value:
        """A declared input of the flow."""
        if name not in self.inputs:
            hint = nearest(name, self.inputs) or f'declare it: .input("{name}", shape, dtype)'
            raise self.error("RLX-F004", f"the flow has no input {name!r}", hint)
        return self.inputs[name]

    def lengths(self) -> tuple[Value, Value]:
        """(past_len, new_len), i32 [B]: tokens in the cache before this call, and tokens of this call."""
        if "past_len" not in self.inputs or "new_len" not in self.inputs:
            raise self.error(
                "RLX-F005", "a decoder needs the inputs past_len and new_len", "use .decoder_inputs()"
            )
        return self.inputs["past_len"], self.inputs["new_len"]

    def rope_tables(self, name: str = "rope") -> tuple[Value, Value]:
        """The (cos, sin) tables installed under this name."""
        if name in self.state.failed_rope:
            raise _NoValue
        if name not in self.state.rope:
            known = nearest(name, self.state.rope)
            raise self.error(
                "RLX-F006", f"no rope tables {name!r}", known or "put .rope_tables(...) before the layers"
            )
        return self.state.rope[name]

    def append_to_cache(self, name: str, new: Value) -> Value:
        """Append new rows [B, S, Hkv, D] to a cache of this flow; the state [B, Hkv, C, D] with them in it.

        The cache is created at its first use; `C`, its capacity, is chosen at run time.
        """
        past_len, new_len = self.lengths()
        shape = (new.dim(0), new.dim(2), dim("C"), new.dim(3))
        before = self.new_state(name, shape, self._kv_dtype)
        after = cache_append(before, new, past_len, new_len)
        self.carry(name, before, after)
        return after

    def new_state(self, name: str, shape: Shape, dtype: DType = f32) -> Value:
        """A state of this flow, zero before the first call; give what it becomes to `carry`.

        One with the size `C` holds a row per position; any other is the sum of all that a sequence has seen.
        """
        if name in self.state.caches:
            raise self.error("RLX-F007", f"cache {name!r} is written twice", "give each layer its own name")
        return state(key=name, dtype=dtype, shape=shape)

    def carry(self, name: str, before: Value, after: Value) -> None:
        """The state is `after` when the next call begins."""
        self.state.caches[name] = State(name, before, after)

    def output(self, name: str, value: Value) -> None:
        """Make a value of this flow one of its outputs."""
        if not name:
            raise self.error("RLX-F008", "an output needs a name", "write .output(name)")
        self._own(value)
        if name in self.state.outputs:
            raise self.error(
                "RLX-F008", f"output {name!r} is declared twice", "give each output its own name"
            )
        self.state.outputs[name] = value

    @contextmanager
    def scope(self, label: str) -> Iterator[None]:
        """Ops emitted within the block carry the path `path.label`."""
        saved, self.path = self.path, f"{self.path}.{label}"
        try:
            with self.builder.scope(self.path):
                yield
        finally:
            self.path = saved

    def run(self, stage: Stage, x: Value | None, label: str = "") -> Value | None:
        """Emit a nested stage under `path.label`. Its errors are collected, and activations flow on."""
        saved = self.path
        self.path = ".".join(p for p in (saved, label or stage_label(stage)) if p)
        # what flows on after an error: activations, which most stages keep in shape; ids would only confuse
        y = x if x is not None and x.dtype.is_float and x.rank >= 3 else None
        try:
            with self.builder.scope(self.path):
                emitted = stage.emit(self, x)
                y = x if emitted is None else self._own(emitted)
        except _NoValue:
            pass
        except Exception as error:
            self.problems.append(_problem(error, self.path))
            self.lost_value = True
        if not saved:
            self.trace.append((self.path, y))
        self.path = saved
        return y

    def _own(self, y: object) -> Value:
        if not isinstance(y, Value):
            hint = "give a value of this flow; emit may return None to leave the active value as it is"
            raise self.error("RLX-F009", f"the stage gave {type(y).__name__}, not a value", hint)
        if not self.builder.owns(y):
            hint = "do not keep values between builds"
            raise self.error("RLX-F010", "the stage gave a value of another graph", hint)
        return y


def _problem(error: Exception, path: str) -> Problem:
    if isinstance(error, RlxError):
        return Problem(error.code, error.message, error.where or path, error.hint, error)
    message = f"the stage raised {type(error).__name__}: {printable(error)}"
    return Problem("RLX-F024", message, path, f"see {raised_at(error)}", error)


def labelled(stages: tuple[Stage, ...]) -> Iterator[tuple[str, Stage]]:
    """Each stage with its label; stages of one name get a number."""
    seen: dict[str, int] = {}
    for stage in stages:
        label = stage_label(stage)
        seen[label] = seen.get(label, 0) + 1
        yield (label if seen[label] == 1 else f"{label}_{seen[label]}"), stage


def run_all(e: Emit, stages: tuple[Stage, ...], x: Value | None) -> Value | None:
    """Emit stages one after the other."""
    for label, stage in labelled(stages):
        x = e.run(stage, x, label)
    return x
