# ruff: noqa: E501  (one case per line or two)
"""Flows wired wrongly: what declares each, and what is to be said of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from flow_samples import BERT, ScaleStage, decoding, embedded, ids, layer

from rlxflow.flow.emit import Emit
from rlxflow.flow.flow import ModelFlow
from rlxflow.ir.values import Value
from rlxflow.ops.elementwise import add, exp
from rlxflow.ops.linear import linear
from rlxflow.ops.shape import reshape, slice_
from rlxflow.stages.custom import CustomStage
from rlxflow.stages.ffn import GatedMlpStage
from rlxflow.stages.residual import ResidualSaveStage
from rlxflow.stages.rope import RopeTablesStage
from rlxflow.weights.plan import WeightSpec

KEPT: list[Value] = []  # what a careless stage keeps between builds


def keep(e: Emit, x: Value | None) -> Value | None:
    """Returns the value it saw in the first build."""
    KEPT.append(e.need(x))
    return KEPT[0]


def use_kept(e: Emit, x: Value | None) -> Value | None:
    KEPT.append(e.need(x))
    return add(KEPT[0], e.need(x))


def output_kept(e: Emit, x: Value | None) -> Value | None:
    KEPT.append(e.need(x))
    e.output("kept", KEPT[0])
    return x


def twice(function: Callable[[Emit, Value | None], Value | None]) -> Callable[[], ModelFlow]:
    """A flow with this closure, lowered once before it is checked."""

    def make() -> ModelFlow:
        KEPT.clear()
        flow = embedded().custom(function, name="careless")
        flow.check()
        return flow

    return make


def fails(i: int) -> Any:
    raise KeyError("hidden_sizes")


@dataclass
class Unfrozen:
    """Not hashable, since dataclasses that can change are not."""

    keys: list[str]

    def weights(self) -> tuple[WeightSpec, ...]:
        return ()

    def emit(self, e: Emit, x: Value | None) -> Value | None:
        return x


@dataclass(frozen=True)
class BadWeights:
    what: str

    def weights(self) -> Any:
        if self.what == "raise":
            raise ZeroDivisionError("hidden_size")
        return {"none": None, "string": ("w",), "shape": (WeightSpec("w", ("x y",)),)}[self.what]  # type: ignore[arg-type]

    def emit(self, e: Emit, x: Value | None) -> Value | None:
        return x


def custom(function: Callable[..., Any], **weights: tuple[int | None, ...]) -> ModelFlow:
    return embedded().custom(function, weights)


def mask_flow(shape: tuple[str | int, ...], dtype: str) -> ModelFlow:
    flow = ModelFlow("test").input("input_ids", ("B", "S"), "i64").input("attention_mask", shape, dtype)
    return flow.embed("embed.weight", 50, 12)


Case = tuple[str, Callable[[], Any], str, str, str, str]
# id, what declares the flow, code, part of the message, part of the hint, where
CASES: list[Case] = [
    # F1: inputs, outputs, order, residuals
    ("F1-no-input", lambda: ModelFlow("m").embed("w"), "RLX-F015", "no input", ".input(", "m"),
    ("F1-nothing-at-all", lambda: ModelFlow("m"), "RLX-F015", "no input", ".input(", "m"),
    ("F1-no-output", lambda: ModelFlow("m").input("x", ("B",)), "RLX-F016", "no output", ".output(name)", "m"),
    ("F1-two-inputs", lambda: ids().input("input_ids", ("B",)), "RLX-F013", "'input_ids' is declared twice",
     "rename", "test"),
    ("F1-input-without-name", lambda: ModelFlow("m").input("", ("B",)), "RLX-F014", "needs a name", ".input(name",
     "input"),
    ("F1-input-shape-is-text", lambda: ModelFlow("m").input("x", "BS"), "RLX-I001", "is not a shape",
     '("B", "S", 384)', ""),
    ("F1-input-shape-is-nonsense", lambda: ModelFlow("m").input("x", ("B", 1.5)),  # type: ignore[arg-type,list-item]
     "RLX-I001", "1.5 is not a dimension", '"S+1"', ""),
    ("F1-input-shape-is-negative", lambda: ModelFlow("m").input("x", ("B", -1)), "RLX-I001", "negative",
     "0 or more", ""),
    ("F1-two-outputs", lambda: embedded().output("y").output("y"), "RLX-F008", "'y' is declared twice",
     "own name", "output_2"),
    ("F1-output-without-name", lambda: embedded().output(""), "RLX-F008", "needs a name", ".output(name)", "output"),
    ("F1-stages-after-the-last-output", lambda: embedded().output("hidden").rms_norm("n", 1e-6).mean_pool("attention_mask"),
     "RLX-F028", "nothing uses the value", ".output(name)", "mean_pool"),
    ("F1-stage-before-embedding", lambda: ids().rms_norm("n", 1e-6), "RLX-I010", "x is i64, wanted a float type",
     "", "rms_norm"),
    ("F1-layer-before-embedding", lambda: ids().bert_encoder_layer(BERT), "RLX-I010", "x is i64", "",
     "bert_encoder_layer.attention"),
    ("F1-add-without-save", lambda: embedded().residual_add(), "RLX-F019", "nothing was saved",
     "residual_save() before", "residual_add"),
    ("F1-two-adds-one-save", lambda: embedded().residual_save().residual_add().residual_add(), "RLX-F019",
     "nothing was saved", "residual_save()", "residual_add_2"),
    ("F1-save-never-added", lambda: embedded().residual_save(), "RLX-F012", "never added", "residual_add()",
     "residual_save"),
    ("F1-two-saves-one-add", lambda: embedded().residual_save().residual_save().residual_add(), "RLX-F012",
     "never added", "residual_add()", "residual_save"),
    ("F1-stack-not-closed", lambda: embedded().layer("block", lambda s: s.residual_save()), "RLX-F012",
     "never added", "residual_add()", "block.residual_save"),
    ("F1-stack-adds-outer", lambda: embedded().residual_save().layer("b", lambda s: s.residual_add()).residual_add(),
     "RLX-F019", "nothing was saved", "residual_save()", "b.residual_add"),
    ("F1-residual-of-another-shape", lambda: embedded().residual_save().linear("w", 7).residual_add(), "RLX-I010",
     "do not broadcast", "", "residual_add"),
    ("F1-not-a-stage", lambda: embedded().stage("norm"), "RLX-F011", "str is not a stage", "frozen dataclass", ""),
    ("F1-a-class-for-a-stage", lambda: embedded().stage(ResidualSaveStage), "RLX-F011",  # type: ignore[arg-type]
     "ResidualSaveStage is not a stage", "pass an instance", ""),
    ("F1-a-stage-that-can-change", lambda: embedded().stage(Unfrozen(["a"])), "RLX-F011", "Unfrozen cannot be hashed",
     "frozen dataclass", ""),
    # F2: streams
    ("F2-load-before-store", lambda: embedded().load_stream("a"), "RLX-F021", "'a' was never stored",
     "store_stream('a')", "load_stream"),
    ("F2-unknown-stream", lambda: embedded().store_stream("vision").load_stream("visoin"), "RLX-F021",
     "'visoin' was never stored", "did you mean 'vision'?", "load_stream"),
    ("F2-stream-of-another-shape", lambda: embedded().store_stream("a").linear("w", 7).store_stream("a"), "RLX-F020",
     "holds [B,S,12], not [B,S,7]", "another stream name", "store_stream_2"),
    # F3: repeated layers
    ("F3-negative-count", lambda: embedded().repeat_layers(-1, layer), "RLX-F017", "-1 times", "0 or more", "layers"),
    ("F3-count-is-no-integer", lambda: embedded().repeat_layers(2.0, layer), "RLX-F017",  # type: ignore[arg-type]
     "2.0 times", "0 or more", "layers"),
    ("F3-layer-is-none", lambda: embedded().repeat_layers(2, lambda i: None), "RLX-F011",  # type: ignore[arg-type,return-value]
     "NoneType is not a stage", "frozen dataclass", "layers.0"),
    ("F3-third-layer-is-none", lambda: embedded().repeat_layers(5, lambda i: layer(i) if i < 2 else None),  # type: ignore[arg-type,return-value]
     "RLX-F011", "NoneType is not a stage", "frozen dataclass", "layers.2"),
    ("F3-layer-raises", lambda: embedded().repeat_layers(2, fails, "blocks"), "RLX-F027",
     "raised KeyError: 'hidden_sizes'", "cause", "blocks.0"),
    ("F3-fill-returns-nothing", lambda: embedded().layer("mlp", lambda s: None), "RLX-F011",  # type: ignore[arg-type,return-value]
     "NoneType is not a stage", "frozen dataclass", "mlp"),
    ("F3-patch-returns-nothing", lambda: embedded().patch(lambda f: None), "RLX-F027",  # type: ignore[arg-type,return-value]
     "patch() returned NoneType", "return the flow", ""),
    ("F3-when-returns-nothing", lambda: embedded().when(True, lambda f: None), "RLX-F027",  # type: ignore[arg-type,return-value]
     "when() returned NoneType", "return the flow", ""),
    ("F3-one-prefix-for-all-layers", lambda: decoding().repeat_layers(2, lambda i: layer(0)), "RLX-F007",
     "cache 'layers.0.self_attn.k' is written twice", "own name", "layers.1.decoder_layer.attention"),
    # F4: rope tables
    ("F4-no-tables", lambda: decoding(rope=False).stage(layer()), "RLX-F006", "no rope tables 'rope'",
     ".rope_tables(...) before", "decoder_layer.attention"),
    ("F4-unknown-table", lambda: decoding().stage(layer(rope_table="rop")), "RLX-F006", "no rope tables 'rop'",
     "did you mean 'rope'?", "decoder_layer.attention"),
    ("F4-twice", lambda: decoding().rope_tables(RopeTablesStage(2, 10.0)).stage(layer()), "RLX-F018",
     "'rope' are installed twice", "name the second", "rope_tables_2"),
    ("F4-wider-than-heads", lambda: decoding(False).rope_tables(RopeTablesStage(8, 1e4)).stage(layer()), "RLX-I010",
     "rotate 8 channels of heads with 4", "rotary_dim at most head_dim", "decoder_layer.attention"),
    ("F4-odd", lambda: decoding(False).rope_tables(RopeTablesStage(3, 1e4)), "RLX-I021", "rotary_dim is 3",
     "even number", "rope_tables"),
    ("F4-unknown-scaling", lambda: decoding(False).rope_tables(RopeTablesStage(4, 1e4, (("rope_type", "yarm"),))),
     "RLX-I020", "unknown rope type 'yarm'", "did you mean 'yarn'?", "rope_tables"),
    ("F4-scaling-without-factor", lambda: decoding(False).rope_tables(RopeTablesStage(4, 1e4, (("rope_type", "linear"),))),
     "RLX-I021", "needs 'factor'", "rope_parameters", "rope_tables"),
    # F5: heads of language models
    ("F5-tied-without-embedding", lambda: decoding().lm_head(50, 12, tied=True), "RLX-F025",
     "tied to 'model.embed_tokens.weight', which no stage", "into the flow", "lm_head"),
    ("F5-tied-to-another-vocabulary", lambda: ModelFlow("m").decoder_inputs().token_embed(50, 12).lm_head(51, 12, True),
     "RLX-F026", "is [51,12] here, but [50,12] in embed", "same sizes", "lm_head"),
    ("F5-head-of-another-width", lambda: decoding().lm_head(50, 16), "RLX-I010", "x has width 12, the weight takes 16",
     "[out, in]", "lm_head"),
    # F6: widths, heads, masks
    ("F6-layer-of-another-width", lambda: decoding().stage(layer(hidden_size=16)), "RLX-I010",
     "weight is [16], wanted [12]", "", "decoder_layer"),
    ("F6-second-layer-of-another-width", lambda: decoding().repeat_layers(3, lambda i: layer(i, hidden_size=12 + 4 * (i == 1))),
     "RLX-I010", "weight is [16], wanted [12]", "", "layers.1.decoder_layer"),
    ("F6-bert-of-another-width", lambda: embedded().bert_encoder_layer(replace(BERT, hidden_size=9)), "RLX-I010",
     "width 12, the weight takes 9", "", "bert_encoder_layer.attention"),
    ("F6-heads-do-not-divide", lambda: embedded().bert_encoder_layer(replace(BERT, num_heads=5)), "RLX-F022",
     "5 heads do not divide hidden_size 12", "num_heads", "bert_encoder_layer.attention"),
    ("F6-key-heads-do-not-divide", lambda: decoding().stage(layer(num_kv_heads=3)), "RLX-F022",
     "3 key heads do not divide 4", "num_kv_heads", "decoder_layer.attention"),
    ("F6-no-key-heads", lambda: decoding().stage(layer(num_kv_heads=0)), "RLX-F022", "0 key heads", "num_kv_heads",
     "decoder_layer.attention"),
    ("F6-mlp-of-another-width", lambda: embedded().stage(GatedMlpStage("g", "u", "d")).residual_save().linear("w", 5)
     .stage(ScaleStage("s", 4)).residual_add(), "RLX-I010", "shapes [B,S,5] and [4] do not broadcast", "", "scale"),
    ("F6-one-weight-two-shapes", lambda: embedded().linear("w", 12).linear("w", 13), "RLX-F026",
     "weight 'w' is [13,?] here, but [12,?] in linear", "same sizes", "linear_2"),
    ("F6-one-weight-two-ranks", lambda: embedded().linear("w", 12).custom(lambda e, x: None, {"w": (12,)}), "RLX-F026",
     "weight 'w' is [12] here, but [12,?] in linear", "same sizes", "custom"),
    ("F6-mask-rank", lambda: mask_flow(("B",), "i64").bert_encoder_layer(BERT), "RLX-I010", "mask is [B], wanted [B,S]",
     "", "bert_encoder_layer.attention"),
    ("F6-mask-length", lambda: mask_flow(("B", "T"), "i64").mean_pool("attention_mask"), "RLX-I010",
     "mask is [B,T], wanted [B,S]", "", "mean_pool"),
    ("F6-pool-twice", lambda: embedded().mean_pool("attention_mask").mean_pool("attention_mask"), "RLX-I010",
     "x has rank 2 [B,12], wanted 3", "", "mean_pool_2"),
    ("F6-cls-of-a-vector", lambda: embedded().cls_token_pool().cls_token_pool(), "RLX-I008", "axis 2 is outside", "2 axes",
     "cls_token_pool_2"),
    # F7: decoding
    ("F7-layer-without-lengths", lambda: embedded().stage(layer()), "RLX-F006", "no rope tables", ".rope_tables(",
     "decoder_layer.attention"),
    ("F7-tables-without-lengths", lambda: embedded().rope_tables(RopeTablesStage(4, 1e4)).stage(layer()), "RLX-F005",
     "past_len and new_len", ".decoder_inputs()", "rope_tables"),
    ("F7-head-without-lengths", lambda: embedded().lm_head(50, 12), "RLX-F005", "past_len and new_len",
     ".decoder_inputs()", "lm_head"),
    ("F7-last-token-without-lengths", lambda: embedded().gather_last_token(), "RLX-F005", "past_len and new_len",
     ".decoder_inputs()", "gather_last_token"),
    ("F7-lengths-of-another-shape", lambda: embedded().input("past_len", (), "i32").input("new_len", (), "i32")
     .gather_last_token(), "RLX-I010", "index has rank 0", "", "gather_last_token"),
    ("F7-float-lengths", lambda: embedded().input("past_len", ("B",)).input("new_len", ("B",)).rope_tables(
        RopeTablesStage(4, 1e4)), "RLX-I010", "is i32, wanted f32", "", "rope_tables"),
    ("F7-two-caches-of-one-name", lambda: decoding().stage(layer(0)).stage(layer(0)), "RLX-F007",
     "'layers.0.self_attn.k' is written twice", "own name", "decoder_layer_2.attention"),
    # F8: custom stages
    ("F8-value-of-another-graph", twice(keep), "RLX-F010", "a value of another graph", "between builds", "careless"),
    ("F8-op-on-a-value-of-another-graph", twice(use_kept), "RLX-I012", "belongs to another graph", "between builds",
     "careless"),
    ("F8-output-of-another-graph", twice(output_kept), "RLX-F010", "a value of another graph", "between builds",
     "careless"),
    ("F8-undeclared-weight", lambda: custom(lambda e, x: linear(x, e.weight("w"))), "RLX-F003", "'w' is not declared",
     "weights()", "custom"),
    ("F8-misspelt-weight", lambda: custom(lambda e, x: linear(x, e.weight("proj.wieght")), **{"proj.weight": (3, 12)}),
     "RLX-F003", "'proj.wieght' is not declared", "did you mean 'proj.weight'?", "custom"),
    ("F8-undeclared-input", lambda: custom(lambda e, x: e.input("attention_masks")), "RLX-F004", "'attention_masks'",
     "did you mean 'attention_mask'?", "custom"),
    ("F8-returns-a-number", lambda: custom(lambda e, x: 3), "RLX-F009", "gave int, not a value", "None to leave",
     "custom"),
    ("F8-returns-an-array", lambda: custom(lambda e, x: [x]), "RLX-F009", "gave list, not a value", "None to leave",
     "custom"),
    ("F8-outputs-a-number", lambda: custom(lambda e, x: e.output("y", 3)), "RLX-F009", "gave int, not a value",
     "of this flow", "custom"),
    ("F8-raises", lambda: custom(lambda e, x: {}["hidden"]), "RLX-F024", "raised KeyError: 'hidden'",
     "wiring_cases.py:", "custom"),
    ("F8-recurses", lambda: custom(lambda e, x: e.run(CustomStage(lambda e, x: fails(0), (), "inner"), x)), "RLX-F024",
     "raised KeyError: 'hidden_sizes'", "wiring_cases.py:", "custom.inner"),
    ("F8-wrong-shape", lambda: custom(lambda e, x: reshape(x, shape=("B", "S", 13))), "RLX-I010",
     "cannot reshape [B,S,12] to [B,S,13]", "", "custom"),
    ("F8-misspelt-attribute", lambda: custom(lambda e, x: slice_(x, axis=1, start=0, end=1)), "RLX-I004",
     "no attribute 'end'", "", "custom"),
    ("F8-no-such-axis", lambda: custom(lambda e, x: exp(reshape(x, shape=(x.dim(3),)))), "RLX-I008",
     "axis 3 is outside [B,S,12]", "3 axes", "custom"),
    ("F8-weights-raise", lambda: embedded().stage(BadWeights("raise")), "RLX-F023", "ZeroDivisionError: hidden_size",
     "tuple of WeightSpec", "bad_weights"),
    ("F8-weights-give-none", lambda: embedded().stage(BadWeights("none")), "RLX-F023", "weights() failed",
     "tuple of WeightSpec", "bad_weights"),
    ("F8-weights-give-text", lambda: embedded().stage(BadWeights("string")), "RLX-F023", "str is not a WeightSpec",
     "tuple of WeightSpec", "bad_weights"),
    ("F8-weights-give-nonsense-shape", lambda: embedded().stage(BadWeights("shape")), "RLX-F023", "not a dimension",
     "tuple of WeightSpec", "bad_weights"),
    # F11: dtypes
    ("F11-unknown-dtype", lambda: ModelFlow("m").input("x", ("B",), "i46"), "RLX-F014", "no input dtype i46",
     "did you mean 'i64'?", "input x"),
    ("F11-numpy-dtype", lambda: ModelFlow("m").input("x", ("B",), float), "RLX-F014", "no input dtype",  # type: ignore[arg-type]
     "known: f64", "input x"),
    ("F11-packed-input", lambda: ModelFlow("m").input("x", ("B", 256), "q4_k"), "RLX-F014", "q4_k", "known: f64",
     "input x"),
    ("F11-float-ids", lambda: ModelFlow("m").input("ids", ("B", "S"), "f32").embed("w", 50, 12), "RLX-I010",
     "ids is f32, wanted an integer type", "token ids", "embed"),
    ("F11-float-token-types", lambda: embedded().input("types", ("B", "S")).gather_add("types", "t", 2, 12), "RLX-I010",
     "ids is f32", "token ids", "gather_add"),
    ("F11-float-attention-mask", lambda: mask_flow(("B", "S"), "f32").bert_encoder_layer(BERT), "RLX-I010",
     "mask is f32", "integer or bool", "bert_encoder_layer.attention"),
    ("F11-float-pooling-mask", lambda: mask_flow(("B", "S"), "f16").mean_pool("attention_mask"), "RLX-I010",
     "mask is f16", "integer or bool", "mean_pool"),
    ("F11-mixed-dtypes", lambda: embedded().input("y", ("B", "S", 12), "f16").custom(lambda e, x: add(x, e.input("y"))),
     "RLX-I010", "b is f16, wanted f32", "", "custom"),
]  # fmt: skip
