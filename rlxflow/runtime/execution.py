"""`ModelExecutionConfig`: which phase of a model is compiled, at what sizes, and how."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from rlxflow.errors import InputError
from rlxflow.flow.composition import LayerComposition
from rlxflow.profile.execution_preset import ExecutionPreset
from rlxflow.quick_dataclass import dataclass

if TYPE_CHECKING:
    from rlxflow.profile.model import CompileProfile

Variant = Literal["encode", "prefill", "decode"]


@dataclass(frozen=True)
class ModelExecutionConfig:
    """One object to specialise, compile and cache by.

    A call has `batch` sequences of `new` tokens each, behind `past` tokens that are cached. `quant` names the
    dtype that weights are stored in (documentation for the key; files decide). Make one with `encode`,
    `prefill` or `decode`.
    """

    variant: Variant
    batch: int
    new: int
    past: int
    preset: ExecutionPreset
    quant: str = ""
    layers: LayerComposition | None = None

    def __post_init__(self) -> None:
        if min(self.batch, self.new) < 1 or self.past < 0:
            message = f"batch {self.batch}, {self.new} new and {self.past} past tokens"
            raise InputError(message, code="RLX-R070", hint="give 1 or more, and past 0 or more")

    @classmethod
    def encode(cls, batch: int, seq: int) -> ModelExecutionConfig:
        """An encoder's call."""
        return cls("encode", batch, seq, 0, ExecutionPreset.ENCODER)

    @classmethod
    def prefill(cls, batch: int, seq: int) -> ModelExecutionConfig:
        """The first call of a decoder."""
        return cls("prefill", batch, seq, 0, ExecutionPreset.PREFILL)

    @classmethod
    def decode(cls, batch: int, past: int, new: int = 1) -> ModelExecutionConfig:
        """A later call of a decoder."""
        return cls("decode", batch, new, past, ExecutionPreset.DECODE)

    def with_preset(self, preset: ExecutionPreset | str) -> ModelExecutionConfig:
        """The same call, compiled by another preset; raises ValueError for a name that is none."""
        return replace(self, preset=ExecutionPreset(preset))

    def with_quant(self, quant: str) -> ModelExecutionConfig:
        """The same call, with weights stored in another dtype."""
        return replace(self, quant=quant)

    def with_layer_composition(self, layers: LayerComposition) -> ModelExecutionConfig:
        """The same call, of a model with these layers."""
        return replace(self, layers=layers)

    def compile_profile(self) -> CompileProfile:
        """The preset's profile: what `BuiltModel.compile` takes."""
        return self.preset.profile()

    def dim_binding(self) -> dict[str, int]:
        """The named sizes of the call: B sequences, S tokens, C positions of a cache."""
        return {"B": self.batch, "S": self.new, "C": self.past + self.new}

    def cache_key(self) -> str:
        """16 hex digits over everything here, the profile's values included; the same in every process."""
        layers = self.layers.cache_key() if self.layers else ""
        parts = (self.variant, self.batch, self.new, self.past, self.preset.profile_key(), self.quant, layers)
        return hashlib.blake2b(repr(parts).encode(), digest_size=8, person=b"rlx-execution-1").hexdigest()
