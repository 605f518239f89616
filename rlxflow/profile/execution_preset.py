"""The shipped profiles as an enum."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rlxflow.profile.model import CompileProfile


class ExecutionPreset(StrEnum):
    """A shipped profile: each member is one file of `profiles/`, and its value is the file's name."""

    DECODE = "decode"
    ENCODER = "encoder"
    ENCODER_INT8 = "encoder_int8"
    EXACT = "exact"
    LLAMA32_DECODE = "llama32_decode"
    LLAMA32_PREFILL = "llama32_prefill"
    PREFILL = "prefill"
    QWEN3_DECODE = "qwen3_decode"
    QWEN3_PREFILL = "qwen3_prefill"
    QWEN35_DECODE = "qwen35_decode"
    QWEN35_PREFILL = "qwen35_prefill"

    def profile(self) -> CompileProfile:
        """The profile in the file."""
        from rlxflow.profile.load import load_preset

        return load_preset(self.value)

    def profile_key(self) -> str:
        """The profile's hash: equal for presets that compile alike."""
        return self.profile().hash()
