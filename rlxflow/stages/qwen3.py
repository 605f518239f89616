"""Qwen3's decoder layer (HF `Qwen3DecoderLayer`): per-head RMSNorm on q and k; Qwen2 is the same without."""

from __future__ import annotations

from typing import TypeAlias

from rlxflow.quick_dataclass import dataclass
from rlxflow.stages.decoder import DecoderLayerSpec, DecoderLayerStage


@dataclass(frozen=True)
class Qwen3DecoderSpec(DecoderLayerSpec):
    """Qwen3 norms q and k and has no biases; Qwen2 has `qk_norm=False, qkv_bias=True`."""

    qk_norm: bool = True


@dataclass(frozen=True)
class Qwen3DecoderStage(DecoderLayerStage):
    """See `DecoderLayerStage`; serves prefill and decode alike."""


# One layer serves every phase, so the decode-named twins are the same classes.
Qwen3DecodeLayerSpec: TypeAlias = Qwen3DecoderSpec
Qwen3DecodeLayerStage: TypeAlias = Qwen3DecoderStage
