"""Small models on the reference backend, with weights from a seed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from rlxflow.backends.reference.backend import ReferenceBackend
from rlxflow.backends.reference.executable import ReferenceExecutable
from rlxflow.dtypes import Array, DType, f32
from rlxflow.flow.declared import declare
from rlxflow.flow.flow import ModelFlow
from rlxflow.flow.lowering import lower
from rlxflow.fusion.legalize import legalize
from rlxflow.ir.dims import UNKNOWN
from rlxflow.ir.graph import Graph
from rlxflow.ir.values import Type
from rlxflow.ir.verify import verify
from rlxflow.stages.bert import BertEncoderLayerSpec, BertEncoderLayerStage, BertQkvStyle
from rlxflow.stages.decoder import DecoderLayerSpec, DecoderLayerStage
from rlxflow.stages.rope import RopeTablesStage

VOCAB, HIDDEN, POSITIONS = 30, 12, 9


class Drawn:
    """Weights [12, …] drawn from their key; norms around 1."""

    def __init__(self, graph: Graph) -> None:
        self._shapes = {key: value.shape for key, value in graph.params.items()}

    def read(self, key: str) -> Array:
        rng = np.random.default_rng(list(key.encode()))
        scale = 0.2 if len(self._shapes[key]) == 1 else 0.5
        return (rng.normal(0, scale, self._shapes[key]) + ("norm.w" in key.lower())).astype(np.float32)  # type: ignore[arg-type]


def graph_of(flow: ModelFlow, *, fusable: bool = False, kv_dtype: DType = f32) -> Graph:
    types: dict[str, tuple[str, Type] | None] = {
        k: (t[0], Type(f32, tuple(HIDDEN if d == UNKNOWN else d for d in t[1].shape))) if t else None
        for k, t in declare(flow).types.items()
    }
    lowered = lower(flow, types, fusable=fusable, kv_dtype=kv_dtype)
    assert lowered.problems == () and lowered.graph is not None
    return verify(lowered.graph)


def compiled(
    flow: ModelFlow, *, fusable: bool = False, compute: Any = np.float32, kv_dtype: DType = f32
) -> ReferenceExecutable:
    graph, backend = graph_of(flow, fusable=fusable, kv_dtype=kv_dtype), ReferenceBackend(compute)
    return backend.compile(legalize(graph, backend.claims), Drawn(graph), None)  # type: ignore[arg-type]


def encoder(num_layers: int = 2, pool: str = "mean") -> ModelFlow:
    def layer(i: int) -> BertEncoderLayerStage:
        spec = BertEncoderLayerSpec(f"l.{i}", BertQkvStyle.BERT, HIDDEN, 3, 20, 1e-12)
        return BertEncoderLayerStage(spec)

    flow = (
        ModelFlow("encoder")
        .input("input_ids", ("B", "S"), "i64")
        .input("attention_mask", ("B", "S"), "i64")
        .gather_from_input("input_ids", "words", VOCAB, HIDDEN)
        .add_positions("positions", POSITIONS, HIDDEN)
        .layer_norm("norm.weight", "norm.bias", 1e-12)
        .repeat_layers(num_layers, layer)
        .output("last_hidden_state")
    )
    pooled = flow.mean_pool("attention_mask") if pool == "mean" else flow.cls_token_pool()
    return pooled.l2_normalize().output("embedding")


def decoder(num_layers: int = 2, scaling: Any = (), **changes: Any) -> ModelFlow:
    sizes: dict[str, Any] = {
        "hidden_size": HIDDEN, "intermediate_size": 20, "num_heads": 4, "num_kv_heads": 2, "head_dim": 6,
        "eps": 1e-6,
    }  # fmt: skip
    return (
        ModelFlow("decoder")
        .decoder_inputs()
        .token_embed(VOCAB, HIDDEN)
        .rope_tables(RopeTablesStage(6, 10000.0, scaling))
        .repeat_layers(
            num_layers, lambda i: DecoderLayerStage(DecoderLayerSpec(f"l.{i}", **{**sizes, **changes}))
        )
        .final_norm(1e-6)
        .lm_head(VOCAB, HIDDEN)
    )


def tokens(lengths: Iterable[int], width: int | None = None, seed: int = 0) -> tuple[Array, Array]:
    """Random ids [B, S] padded with 0 on the right, and their mask."""
    counts = list(lengths)
    width = max(counts, default=0) if width is None else width
    mask = (np.arange(width) < np.array(counts, int)[:, None]).astype(np.int64)
    ids = np.random.default_rng(seed).integers(1, VOCAB, mask.shape)
    return ids * mask, mask


def encode(model: ReferenceExecutable, ids: Array, mask: Array) -> Mapping[str, Array]:
    return model({"input_ids": ids, "attention_mask": mask})


def step(
    model: ReferenceExecutable, state: Any, ids: Array, past: Any, new: Any, **more: Any
) -> dict[str, Array]:
    inputs = {"input_ids": ids, "past_len": np.asarray(past, np.int32), "new_len": np.asarray(new, np.int32)}
    return model(inputs, state, **more)
