"""Flows, stages and weights for the tests of `rlxflow.flow`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rlxflow.dtypes import Array, f32
from rlxflow.flow.emit import Emit
from rlxflow.flow.flow import ModelFlow
from rlxflow.ir.values import Value
from rlxflow.stages.bert import BertEncoderLayerSpec, BertQkvStyle
from rlxflow.stages.decoder import DecoderLayerSpec, DecoderLayerStage
from rlxflow.stages.rope import RopeTablesStage
from rlxflow.weights.plan import WeightSpec
from rlxflow.weights.source import TensorInfo

SPEC = DecoderLayerSpec(
    "layers.0", hidden_size=12, intermediate_size=20, num_heads=4, num_kv_heads=2, head_dim=4, eps=1e-6
)
BERT = BertEncoderLayerSpec("enc.0", BertQkvStyle.BERT, 12, 3, 20, 1e-12)


def ids() -> ModelFlow:
    """Ids and a mask, nothing else."""
    return ModelFlow("test").input("input_ids", ("B", "S"), "i64").input("attention_mask", ("B", "S"), "i64")


def embedded() -> ModelFlow:
    """Activations [B, S, 12]."""
    return ids().embed("embed.weight", 50, 12)


def decoding(rope: bool = True) -> ModelFlow:
    """A decoder before its layers."""
    flow = ModelFlow("decoder").decoder_inputs().embed("embed.weight", 50, 12)
    return flow.rope_tables(RopeTablesStage(4, 10000.0)) if rope else flow


def layer(i: int = 0, **changes: Any) -> DecoderLayerStage:
    return DecoderLayerStage(replace(SPEC, layer_prefix=f"layers.{i}", **changes))


def decoder(num_layers: int = 2, vocab_size: int = 50, tied: bool = False, **changes: Any) -> ModelFlow:
    """A whole decoder flow, as recipes declare them."""
    return (
        ModelFlow("decoder")
        .decoder_inputs()
        .token_embed(vocab_size, 12)
        .rope_tables(RopeTablesStage(4, 10000.0))
        .repeat_layers(num_layers, lambda i: layer(i, **changes))
        .final_norm(1e-6)
        .output("last_hidden_state")
        .lm_head(vocab_size, 12, tied=tied)
    )


def encoder(num_layers: int = 2) -> ModelFlow:
    """A small BERT with pooling."""
    return (
        ids()
        .gather_from_input("input_ids", "words", 50, 12)
        .add_positions("positions", 16, 12)
        .layer_norm("norm.weight", "norm.bias", 1e-12)
        .repeat_bert_layers(num_layers, "", BertQkvStyle.BERT, 12, 3, 1e-12)
        .output("last_hidden_state")
        .mean_pool("attention_mask")
        .l2_normalize()
        .output("embedding")
    )


class FakeWeights:
    """A weight source that has every weight of a flow, of its declared size; data come from a seed."""

    def __init__(self, flow: ModelFlow, free: int = 12) -> None:
        self._infos = {
            s.key: TensorInfo(s.key, f32, tuple(free if d is None else d for d in s.shape), "fake")
            for s in flow.weights()
            if s.tied_to is None
        }

    def keys(self) -> Iterable[str]:
        return self._infos.keys()

    def info(self, key: str) -> TensorInfo:
        return self._infos[key]

    def read(self, key: str) -> Array:
        rng = np.random.default_rng(sum(key.encode()) + len(key))
        values = rng.normal(0, 0.4, self._infos[key].shape).astype(np.float32)
        return values + np.float32("norm" in key)


@dataclass(frozen=True)
class ScaleStage:
    """y = x · w, a stage as a third party would write it."""

    key: str
    size: int

    def weights(self) -> tuple[WeightSpec, ...]:
        return (WeightSpec(self.key, (self.size,)),)

    def emit(self, e: Emit, x: Value | None) -> Value:
        from rlxflow.ops.elementwise import mul

        return mul(e.need(x), e.weight(self.key))
