"""The flow that Llama, Qwen and their kin share around their layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from rlxflow.flow.flow import ModelFlow
from rlxflow.flow.stage import Stage

if TYPE_CHECKING:
    from rlxflow.flow.decoder_config import DecoderConfig


def decoder_flow(
    name: str,
    config: DecoderConfig,
    layer: Callable[[int], Stage],
    *,
    embedding_scale: float = 1.0,
    norm_offset: bool = False,
    final_norm: Stage | None = None,
    logit_scale: float = 1.0,
    logit_softcap: float = 0.0,
) -> ModelFlow:
    """input_ids [B, S] → last_hidden_state [B, S, H], logits [B, S, V] and last_logits [B, V].

    Embedding · embedding_scale, the config's rope tables, `layer(0)` … `layer(num_hidden_layers − 1)`, the
    stage `final_norm` (default: an RMSNorm, see `RmsNormStage` for its offset), head (see `LmHeadStage`),
    under HF's keys.
    """
    from rlxflow.stages.rope import RopeTablesStage

    flow = ModelFlow(name).decoder_inputs().token_embed(config.vocab_size, config.hidden_size)
    flow = flow.embed_scale(embedding_scale)
    for table, rope in config.rope_tables.items():
        flow = flow.rope_tables(RopeTablesStage.of(rope, table))
    flow = flow.repeat_layers(config.num_hidden_layers, layer)
    if final_norm is None:
        flow = flow.final_norm(config.rms_norm_eps, config.hidden_size, norm_offset)
    else:
        flow = flow.stage(final_norm)
    vocab, hidden = config.vocab_size, config.hidden_size
    return flow.output("last_hidden_state").lm_head(
        vocab, hidden, config.tie_word_embeddings, logit_scale, logit_softcap
    )


def decoder_places(
    config: DecoderConfig,
    *,
    qkv_bias: bool = False,
    out_bias: bool = False,
    mlp_bias: bool = False,
    qk_norm: bool = False,
) -> dict[str, int]:
    """How many places each fusion rule finds in such a decoder, for `Recipe.expected`.

    Two residual norms per layer: the network's first norm has no sum before it, its last one has. Without
    biases, the gate projection and its activation still are one linear with activation.
    """
    layers = config.num_hidden_layers
    biased = 3 * qkv_bias + out_bias + (3 if mlp_bias else 1)
    return {
        "fuse-residual-rms-norm": 2 * layers,
        "fuse-attention-block": layers,
        "fuse-shared-input-matmul": 2 * layers,
        "fused-gate-up": layers,
        "fuse-swiglu": 0 if mlp_bias else layers,
        "fuse-matmul-bias-act": biased * layers,
        "fuse-qk-norm-rope": layers if qk_norm else 0,
    }
