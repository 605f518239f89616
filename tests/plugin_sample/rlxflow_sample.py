"""A package of its own that adds to rlxflow: a fused op, the rule that finds it, a stage and a recipe."""

from __future__ import annotations

from dataclasses import dataclass

from rlxflow import Emit, FlowValue, ModelFlow, Recipe, RecipeConfig, Size, WeightSpec
from rlxflow.dtypes import f32
from rlxflow.fusion.rule import Rule
from rlxflow.ir.op import op
from rlxflow.ir.values import Type, Value
from rlxflow.ops.elementwise import add, div, maximum, neg
from rlxflow.ops.leaves import full


@op("fused")
def soft_sign(x: Value) -> Type:
    """x / (1 + |x|)"""
    return x.type


@soft_sign.decompose
def _soft_sign(x: Value) -> Value:
    return div(x, add(full(value=1.0, dtype=f32, shape=()), maximum(x, neg(x))))


RULE = Rule("fuse-soft-sign", soft_sign)


@dataclass(frozen=True)
class SoftSignStage:
    """x / (1 + |x|), written in plain ops; the rule finds it."""

    def weights(self) -> tuple[WeightSpec, ...]:
        return ()

    def emit(self, e: Emit, x: FlowValue | None) -> FlowValue:
        return _soft_sign(e.need(x))


class SampleConfig(RecipeConfig):
    """Two sizes."""

    vocab_size: Size
    hidden_size: Size


def flow(config: SampleConfig) -> ModelFlow:
    """input_ids [B, S] → last_hidden_state [B, S, H]."""
    return (
        ModelFlow("sample")
        .input("input_ids", ("B", "S"), "i64")
        .embed("embed.weight", config.vocab_size, config.hidden_size)
        .stage(SoftSignStage())
        .output("last_hidden_state")
    )


RECIPE = Recipe("sample", SampleConfig, flow, expected=lambda config: {"fuse-soft-sign": 1})
