"""Gemma's decoder layers (HF `GemmaDecoderLayer`, `Gemma2DecoderLayer`): norms multiply by 1 + w."""

from __future__ import annotations

from rlxflow.quick_dataclass import dataclass
from rlxflow.stages.decoder import DecoderLayerSpec, DecoderLayerStage, Norms


@dataclass(frozen=True)
class GemmaDecoderSpec(DecoderLayerSpec):
    """Gemma: a pre-norm layer with GeGLU."""

    norm_offset: bool = True


@dataclass(frozen=True)
class Gemma2DecoderSpec(GemmaDecoderSpec):
    """Gemma 2 and 3: a norm before and after each block."""

    norms: Norms = (
        "input_layernorm",
        "post_attention_layernorm",
        "pre_feedforward_layernorm",
        "post_feedforward_layernorm",
    )


@dataclass(frozen=True)
class GemmaDecoderStage(DecoderLayerStage):
    """See `DecoderLayerStage`."""
