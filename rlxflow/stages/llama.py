"""Llama's decoder layer (HF `LlamaDecoderLayer`): the shared decoder layer under its own name."""

from __future__ import annotations

from rlxflow.quick_dataclass import dataclass
from rlxflow.stages.decoder import DecoderLayerSpec, DecoderLayerStage


@dataclass(frozen=True)
class LlamaDecoderSpec(DecoderLayerSpec):
    """No qk norm; `attention_bias` of the config sets both `qkv_bias` and `out_bias`."""


@dataclass(frozen=True)
class LlamaDecoderStage(DecoderLayerStage):
    """See `DecoderLayerStage`."""
