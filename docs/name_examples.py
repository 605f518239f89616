"""One example for each name of the public vocabulary: the bodies appear in names.md, and a test runs them.

A function is called like the name it shows. What it returns, if anything, is a stage or a flow whose wanted
weights the page lists.
"""

# ruff: noqa: F401
from __future__ import annotations

from typing import Any


def ModelFlow() -> Any:
    import numpy as np

    from rlxflow import MapWeights, ModelFlow

    flow = (
        ModelFlow("tiny")
        .input("ids", ("B", "S"), "i64")
        .embed("table", 5, 3)
        .rms_norm("norm", 1e-6, False, 3)
    )
    weights = MapWeights({"table": np.eye(5, 3, dtype=np.float32), "norm": np.ones(3, np.float32)})
    program = flow.output("y").build(weights).compile("exact")
    assert program({"ids": np.array([[0, 4]])})["y"].shape == (1, 2, 3)
    return flow


def BuiltModel() -> Any:
    import numpy as np

    from rlxflow import BuiltModel, MapWeights, ModelFlow

    flow = ModelFlow("tiny").input("x", ("B", 2)).linear("w", 3).output("y")
    built: BuiltModel = flow.build(MapWeights({"w": np.ones((3, 2), np.float32)}))
    assert built.report.params == 6 and list(built.graph.outputs) == ["y"]
    assert built.compile()({"x": np.ones((1, 2), np.float32)})["y"].tolist() == [[2, 2, 2]]


def FlowStage() -> Any:
    from rlxflow import FlowStage, LinearStage, ModelFlow

    stage: FlowStage = LinearStage("w", 3)
    assert isinstance(stage, FlowStage) and not isinstance(ModelFlow("m"), FlowStage)
    return stage


def FlowValue() -> Any:
    from rlxflow import Emit, FlowValue, ModelFlow

    shapes = []

    def look(e: Emit, x: FlowValue | None) -> FlowValue | None:
        shapes.append(str(e.need(x).type))
        return x

    assert ModelFlow("m").input("x", ("B", "S", 4)).custom(look).output("y").check() == ()
    assert shapes[-1] == "f32[B,S,4]"


def FlowState() -> Any:
    from rlxflow import Emit, FlowState, FlowValue, ModelFlow

    seen: list[FlowState] = []

    def look(e: Emit, x: FlowValue | None) -> FlowValue | None:
        seen.append(e.state)
        return x

    ModelFlow("m").input("x", ("B", 4)).store_stream("main").custom(look).output("y").check()
    assert list(seen[-1].streams) == ["main"] and list(seen[-1].outputs) == ["y"]


def LayerStack() -> Any:
    from rlxflow import LayerStack

    return (
        LayerStack("mlp").residual_save().rms_norm("norm.weight", 1e-6).swiglu_hf_mlp("mlp", 8).residual_add()
    )


def LayerComposition() -> Any:
    from rlxflow import GatedMlpStage, LayerComposition

    layers = LayerComposition.pair(LayerComposition.single("dense"), LayerComposition.homogeneous("wide", 2))
    assert layers.depth_hint() == 3 and layers.runs == (("dense", 1), ("wide", 2))
    return layers.to_flow_stage(
        lambda name, i: GatedMlpStage.hf(f"{name}.{i}.mlp", 8 if name == "dense" else 16)
    )


def ModelRecipe() -> Any:
    import rlxflow
    from rlxflow import ModelRecipe

    recipe = rlxflow.find_recipe("bert")
    assert isinstance(recipe, ModelRecipe) and recipe.model_type == "bert"


def MapWeights() -> Any:
    import numpy as np

    from rlxflow import MapWeights

    weights = MapWeights({"w": np.ones((3, 2), np.float32)})
    assert list(weights.keys()) == ["w"] and weights.info("w").shape == (3, 2)
    assert weights.read("w") is not None and weights.read("w").sum() == 6  # reading takes nothing away


def WeightSource() -> Any:
    from rlxflow import MapWeights, WeightSource

    assert isinstance(MapWeights({}), WeightSource)


def GgufPackedLinear() -> Any:
    import numpy as np

    from rlxflow import GgufPackedLinear
    from rlxflow.dtypes import q8_0

    block = np.float16(0.5).tobytes() + np.arange(32, dtype=np.int8).tobytes()  # a scale and 32 numbers
    linear = GgufPackedLinear(np.frombuffer(block, np.uint8).reshape(1, 34), q8_0, in_dim=32, out_dim=1)
    assert linear.dequantized()[0, :4].tolist() == [0, 0.5, 1, 1.5]


def GgufPackedParams() -> Any:
    import numpy as np

    from rlxflow import GgufPackedParams, MapWeights

    params = GgufPackedParams.from_source(MapWeights({"w": np.ones((2, 32), np.float32)}))
    assert not params.linears  # nothing in it is packed


def RopeTablesStage() -> Any:
    from rlxflow import ModelFlow, RopeTablesStage

    flow = ModelFlow("m").decoder_inputs().token_embed(9, 8)
    assert flow.rope_tables(RopeTablesStage(rotary_dim=4, theta=10000.0)).output("y").check() == ()
    return RopeTablesStage(rotary_dim=4, theta=10000.0)


def BertQkvStyle() -> Any:
    from rlxflow import BertQkvStyle

    assert BertQkvStyle.BERT.value[0] == "attention.self.query"
    assert BertQkvStyle.MPNET.value[0] == "attention.attn.q"


def BertEncoderLayerSpec() -> Any:
    from rlxflow import BertEncoderLayerSpec, BertQkvStyle

    spec = BertEncoderLayerSpec.hf(
        "encoder.layer.0", BertQkvStyle.BERT, hidden_size=8, num_heads=2, eps=1e-12
    )
    assert spec.activation == "gelu" and spec.attention_mask == "attention_mask"


def BertEncoderLayerStage() -> Any:
    from rlxflow import BertEncoderLayerSpec, BertEncoderLayerStage, BertQkvStyle

    return BertEncoderLayerStage(
        BertEncoderLayerSpec.hf(
            "encoder.layer.0", BertQkvStyle.BERT, hidden_size=8, num_heads=2, eps=1e-12, intermediate_size=16
        )
    )


def NomicEncoderLayerSpec() -> Any:
    from rlxflow import NomicEncoderLayerSpec

    spec = NomicEncoderLayerSpec("encoder.layers.0", 8, 2, head_dim=4, intermediate_size=16, eps=1e-12)
    assert (spec.activation, spec.mask_input) == ("silu", "attention_mask")


def NomicEncoderLayerStage() -> Any:
    from rlxflow import NomicEncoderLayerSpec, NomicEncoderLayerStage

    spec = NomicEncoderLayerSpec("encoder.layers.0", 8, 2, head_dim=4, intermediate_size=16, eps=1e-12)
    return NomicEncoderLayerStage(spec)


def VitSelfAttnSpec() -> Any:
    from rlxflow import ModelFlow, VitSelfAttnSpec, VitSelfAttnStage

    attention = VitSelfAttnStage(VitSelfAttnSpec("blocks.0.attn", hidden_size=8, num_heads=2))
    assert ModelFlow("m").input("x", ("B", 5, 8)).stage(attention).output("y").check() == ()
    return attention


def dinov2_layer_fused() -> Any:
    from rlxflow import dinov2_layer_fused

    return dinov2_layer_fused(0, hidden_size=8, num_heads=2, eps=1e-6)


def nomic_vision_layer_fused() -> Any:
    from rlxflow import nomic_vision_layer_fused

    return nomic_vision_layer_fused(0, hidden_size=8, num_heads=2, eps=1e-6)


def ClsTokenPoolStage() -> Any:
    import numpy as np

    from rlxflow import ClsTokenPoolStage, MapWeights, ModelFlow

    flow = ModelFlow("m").input("x", ("B", "S", 2)).stage(ClsTokenPoolStage()).output("y")
    x = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    assert flow.build(MapWeights({})).compile()({"x": x})["y"].tolist() == [[0, 1], [6, 7]]


def Qwen3DecoderSpec() -> Any:
    from dataclasses import replace

    from rlxflow import Qwen3DecoderSpec

    spec = Qwen3DecoderSpec("model.layers.0", 8, 16, num_heads=2, num_kv_heads=1, head_dim=4, eps=1e-6)
    qwen2 = replace(spec, qk_norm=False, qkv_bias=True)
    assert spec.qk_norm and not qwen2.qk_norm


def Qwen3DecoderStage() -> Any:
    from rlxflow import Qwen3DecoderSpec, Qwen3DecoderStage

    spec = Qwen3DecoderSpec("model.layers.0", 8, 16, num_heads=2, num_kv_heads=1, head_dim=4, eps=1e-6)
    return Qwen3DecoderStage(spec)


def Qwen3DecodeLayerSpec() -> Any:
    from rlxflow import Qwen3DecodeLayerSpec, Qwen3DecoderSpec

    assert Qwen3DecodeLayerSpec is Qwen3DecoderSpec  # one layer serves prefill and decode


def Emit() -> Any:
    from rlxflow import Emit, FlowValue, ModelFlow
    from rlxflow.ops.elementwise import mul

    def scaled(e: Emit, x: FlowValue | None) -> FlowValue:
        return mul(e.need(x), e.weight("scale"))

    return ModelFlow("m").input("x", ("B", 4)).custom(scaled, {"scale": (4,)}).output("y")


def PluginStage() -> Any:
    from rlxflow import ModelFlow, PluginStage

    stage = PluginStage(lambda e, x: x, name="nothing")
    assert ModelFlow("m").input("x", ("B", 4)).stage(stage).output("y").check() == ()
    assert (
        ModelFlow("m").input("x", ("B", 4)).plugin_named("nothing", lambda e, x: x).output("y").check() == ()
    )


def StoreStreamStage() -> Any:
    from rlxflow import ModelFlow, StoreStreamStage

    flow = ModelFlow("m").input("x", ("B", 4)).stage(StoreStreamStage("skip"))
    assert flow.linear("w", 4).load_stream("skip").output("y").check() == ()


def LoadStreamStage() -> Any:
    from rlxflow import LoadStreamStage, ModelFlow

    (problem,) = ModelFlow("m").input("x", ("B", 4)).stage(LoadStreamStage("skip")).output("y").check()
    assert problem.code == "RLX-F021"  # nothing was stored under that name


def DualStreamStage() -> Any:
    from rlxflow import DualStreamStage, Emit, FlowValue, ModelFlow
    from rlxflow.ops.elementwise import add

    def crossed(e: Emit, a: FlowValue, b: FlowValue) -> tuple[FlowValue, FlowValue]:
        return add(a, b), b

    flow = ModelFlow("m").input("img", ("B", 4)).input("txt", ("B", 4))
    flow = flow.bind_inputs_to_streams([("img", "img"), ("txt", "txt")])
    assert (
        flow.stage(DualStreamStage("block", "img", "txt", crossed)).load_stream("img").output("y").check()
        == ()
    )


def dual_stream_stage() -> Any:
    from rlxflow import dual_stream_stage, stream_id
    from rlxflow.ops.elementwise import mul

    return dual_stream_stage(
        "gate", stream_id.IMG, stream_id.TXT, lambda e, a, b: (mul(a, e.weight("g")), b), {"g": (4,)}
    )


def stream_id() -> Any:
    from rlxflow import stream_id

    assert (stream_id.MAIN, stream_id.IMG, stream_id.TXT) == ("main", "img", "txt")


def SideOutputs() -> Any:
    from rlxflow import GatedMlpStage, ModelFlow, SideOutputs, SideOutputsStage

    tapped = SideOutputsStage(GatedMlpStage.hf("mlp", 8, hidden_size=4), SideOutputs(hidden="after_mlp"))
    flow = ModelFlow("m").input("x", ("B", "S", 4)).stage(tapped).output("y")
    assert flow.check() == ()
    return flow


def StageArtifacts() -> Any:
    from rlxflow import StageArtifacts

    artifacts = StageArtifacts.hidden_only(("B", "S", 4)).with_side("probs", ("B", 2))
    assert artifacts.side_outputs == (("probs", ("B", 2)),)


def LayerStage() -> Any:
    from rlxflow import BlockAsLayer, LayerStage, LinearStage

    assert isinstance(BlockAsLayer(LinearStage("w", 4)), LayerStage)
    assert not isinstance(LinearStage("w", 4), LayerStage)  # says nothing about what it publishes


def BlockAsLayer() -> Any:
    from rlxflow import BlockAsLayer, GatedMlpStage

    layer = BlockAsLayer(GatedMlpStage.hf("mlp", 8, hidden_size=4))
    assert layer.artifacts(("B", "S", 4)).side_outputs == ()
    return layer


def AttentionStage() -> Any:
    from rlxflow import AttentionStage, SelfAttentionSpec, SelfAttentionStage

    spec = SelfAttentionSpec("attn", hidden_size=8, num_heads=4, num_kv_heads=2, head_dim=2)
    attention: AttentionStage = SelfAttentionStage(spec)
    assert isinstance(attention, AttentionStage)
    return attention


def KvCacheContract() -> Any:
    from rlxflow import KvCacheContract, SelfAttentionSpec, SelfAttentionStage

    spec = SelfAttentionSpec("attn", hidden_size=8, num_heads=4, num_kv_heads=2, head_dim=2)
    contract = SelfAttentionStage(spec).cache_contract()
    assert isinstance(contract, KvCacheContract) and (contract.keys, contract.values) == ("attn.k", "attn.v")
    assert str(contract.shape[0]) == "B" and contract.shape[1] == 2 and contract.shape[3] == 2


def FfnStage() -> Any:
    from rlxflow import FfnStage, GatedMlpStage

    ffn: FfnStage = GatedMlpStage.hf("mlp", 8, hidden_size=4)
    assert isinstance(ffn, FfnStage) and ffn.intermediate_shape((2, 3, 4)) == (2, 3, 8)
    return ffn


def NormStage() -> Any:
    from rlxflow import NormStage, RmsNormStage

    norm: NormStage = RmsNormStage("norm.weight", eps=1e-6, hidden_size=4)
    assert isinstance(norm, NormStage) and norm.eps == 1e-6
    return norm


def DecodeBindings() -> Any:
    from rlxflow import DecodeBindings, ModelFlow

    seen = []
    flow = ModelFlow("m").decoder_inputs().token_embed(9, 4)
    flow.custom(lambda e, x: seen.append(DecodeBindings.of(e))).output("y").check()
    assert str(seen[-1].past_len.type) == "i32[B]" and not seen[-1].caches


def GdnInputSlots() -> Any:
    from rlxflow import GdnInputSlots, GdnScanStage, ModelFlow

    flow = ModelFlow("m").input("past_len", ("B",), "i32").input("new_len", ("B",), "i32")
    for name, inner in {"q": (2, 4), "k": (2, 4), "v": (2, 8), "g": (2,), "beta": (2,)}.items():
        flow = flow.input(name, ("B", "S", *inner))
    flow = flow.bind_inputs_to_streams((n, n) for n in ("q", "k", "v", "g", "beta"))
    scan = GdnScanStage("layers.0.state", GdnInputSlots(q="q", k="k", v="v", g="g", beta="beta"))
    assert flow.gdn_scan(scan).output("y").check() == ()


def FlowExtensionPlan() -> Any:
    from dataclasses import replace

    import numpy as np

    from rlxflow import FlowExtensionPlan, MapWeights, ModelFlow, graph_extension

    @graph_extension("docs-twice")
    def twice(graph):
        return replace(graph, outputs={**graph.outputs, "again": graph.outputs["y"]})

    flow = ModelFlow("m").input("x", ("B", 2)).linear("w", 2).output("y")
    weights = MapWeights({"w": np.eye(2, dtype=np.float32)})
    assert list(flow.build(weights).graph.outputs) == ["y"]  # none unless the flow says so
    extended = flow.with_extensions(FlowExtensionPlan.only("docs-twice"))
    assert list(extended.build(weights).graph.outputs) == ["y", "again"]


def ModelExecutionConfig() -> Any:
    from rlxflow import ModelExecutionConfig

    config = ModelExecutionConfig.decode(batch=1, past=127).with_quant("q4_k").with_preset("decode")
    assert config.dim_binding() == {"B": 1, "S": 1, "C": 128} and len(config.cache_key()) == 16


def ExecutionPreset() -> Any:
    from rlxflow import CompileProfile, ExecutionPreset

    assert ExecutionPreset.ENCODER.profile() == CompileProfile.preset("encoder")


def CompileProfile() -> Any:
    from rlxflow import CompileProfile

    profile = CompileProfile.from_toml_str('extends = "exact"\n[fusion]\npolicy = "fusable"\n')
    assert profile.exact and profile == CompileProfile.from_toml_str(profile.to_toml())


def FusionProfile() -> Any:
    from rlxflow import CompileProfile, FusionProfile

    assert CompileProfile(fusion=FusionProfile(skip=True)).values()["fusion.skip"] is True


def PassProfile() -> Any:
    from rlxflow import PassProfile

    assert PassProfile().dce and PassProfile().constant_folding and not PassProfile().verbose


def PrecisionProfile() -> Any:
    from rlxflow import CompileProfile, PrecisionProfile

    traded = CompileProfile(precision=PrecisionProfile(kv_cache="f16")).trades()
    assert traded == ("keys and values cached in f16 (precision.kv_cache)",)


def BackendOverrides() -> Any:
    from rlxflow import BackendOverrides, CpuBackendProfile, MetalBackendProfile

    overrides = BackendOverrides(
        name="cpu",
        cpu=CpuBackendProfile(threads=1, unfuse_regions=True),
        metal=MetalBackendProfile(skip_fusion=True, unfuse_regions=True),
    )
    assert overrides.cpu.threads == 1


def CpuBackendProfile() -> Any:
    from rlxflow import CpuBackendProfile

    assert CpuBackendProfile().threads == 0  # as many as the process may run on


def MetalBackendProfile() -> Any:
    from rlxflow import BackendOverrides, CompileProfile, MetalBackendProfile
    from rlxflow.profile import effective_dict

    profile = CompileProfile(backend=BackendOverrides(metal=MetalBackendProfile(skip_fusion=True)))
    said = effective_dict(profile)["values"]["backend.metal.skip_fusion"]["without_effect"]
    assert said == "there is no Metal backend"


def FusionPolicyKind() -> Any:
    from rlxflow import FusionPolicyKind

    assert [str(kind) for kind in FusionPolicyKind] == ["direct", "fusable"]


def FusionTargetKind() -> Any:
    from rlxflow import FusionTargetKind

    assert FusionTargetKind("cpu") is FusionTargetKind.CPU


def PrecisionKind() -> Any:
    from rlxflow import PrecisionKind

    assert [str(kind) for kind in PrecisionKind] == ["f32", "f16", "bf16"]


def MixedPrecisionKind() -> Any:
    from rlxflow import MixedPrecisionKind

    assert [str(kind) for kind in MixedPrecisionKind] == ["none", "auto", "int8"]


def blocks() -> Any:
    import rlxflow
    from rlxflow import blocks

    assert (
        blocks.BertEncoderLayerStage is rlxflow.BertEncoderLayerStage and "RopeTablesStage" in blocks.__all__
    )


def escape() -> Any:
    import rlxflow
    from rlxflow import escape

    assert escape.Emit is rlxflow.Emit and escape.DecodeBindings is rlxflow.DecodeBindings


def prelude() -> Any:
    import rlxflow
    from rlxflow import prelude

    assert prelude.ModelFlow is rlxflow.ModelFlow and prelude.__all__ == rlxflow.__all__


def stream() -> Any:
    import rlxflow
    from rlxflow import stream

    assert stream.id is rlxflow.stream_id and stream.DualStreamStage is rlxflow.DualStreamStage
