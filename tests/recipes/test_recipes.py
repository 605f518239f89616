"""Finding recipes, recipes of other packages, and the configs of well-known models."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import goldens
import pytest

import rlxflow
from rlxflow import ModelFlow, Recipe
from rlxflow.errors import ConfigError, FlowError, PluginError
from rlxflow.flow.recipe import find_gguf_recipe

# As published; the parameter counts are those of the models' cards and safetensors headers.
LLAMA_32_1B = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 128000,
    "eos_token_id": [128001, 128008, 128009],
    "head_dim": 64,
    "hidden_act": "silu",
    "hidden_size": 2048,
    "initializer_range": 0.02,
    "intermediate_size": 8192,
    "max_position_embeddings": 131072,
    "mlp_bias": False,
    "model_type": "llama",
    "num_attention_heads": 32,
    "num_hidden_layers": 16,
    "num_key_value_heads": 8,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": {
        "factor": 32.0,
        "high_freq_factor": 4.0,
        "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    },
    "rope_theta": 500000.0,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.45.0.dev0",
    "use_cache": True,
    "vocab_size": 128256,
}
SMOLLM2_135M = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": 576,
    "initializer_range": 0.041666666666666664,
    "intermediate_size": 1536,
    "is_llama_config": True,
    "max_position_embeddings": 8192,
    "mlp_bias": False,
    "model_type": "llama",
    "num_attention_heads": 9,
    "num_hidden_layers": 30,
    "num_key_value_heads": 3,
    "pad_token_id": 2,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_interleaved": False,
    "rope_scaling": None,
    "rope_theta": 100000,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "transformers.js_config": {"kv_cache_dtype": {"q4f16": "float16", "fp16": "float16"}},
    "transformers_version": "4.42.3",
    "use_cache": True,
    "vocab_size": 49152,
}
QWEN25_05B = {
    "architectures": ["Qwen2ForCausalLM"],
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    "hidden_act": "silu",
    "hidden_size": 896,
    "initializer_range": 0.02,
    "intermediate_size": 4864,
    "max_position_embeddings": 32768,
    "max_window_layers": 21,
    "model_type": "qwen2",
    "num_attention_heads": 14,
    "num_hidden_layers": 24,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "sliding_window": 32768,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.43.1",
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": 151936,
}
QWEN3_06B = {
    "architectures": ["Qwen3ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 1024,
    "initializer_range": 0.02,
    "intermediate_size": 3072,
    "max_position_embeddings": 40960,
    "max_window_layers": 28,
    "model_type": "qwen3",
    "num_attention_heads": 16,
    "num_hidden_layers": 28,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sliding_window": None,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.51.0",
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": 151936,
}
BERT_BASE_CHINESE = {
    "architectures": ["BertForMaskedLM"],
    "attention_probs_dropout_prob": 0.1,
    "directionality": "bidi",
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 768,
    "initializer_range": 0.02,
    "intermediate_size": 3072,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 512,
    "model_type": "bert",
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "pad_token_id": 0,
    "pooler_fc_size": 768,
    "pooler_num_attention_heads": 12,
    "pooler_num_fc_layers": 3,
    "pooler_size_per_head": 128,
    "pooler_type": "first_token_transform",
    "type_vocab_size": 2,
    "vocab_size": 21128,
}


@pytest.mark.parametrize(
    ("raw", "parameters"),
    [
        pytest.param(LLAMA_32_1B, 1_235_814_400, id="Llama-3.2-1B"),
        pytest.param(SMOLLM2_135M, 134_515_008, id="SmolLM2-135M"),
        pytest.param(QWEN25_05B, 494_032_768, id="Qwen2.5-0.5B"),
        pytest.param(QWEN3_06B, 596_049_920, id="Qwen3-0.6B"),
        # 102,267,648 with the pooler's 768 x 768 + 768
        pytest.param(BERT_BASE_CHINESE, 102_267_648 - 590_592, id="bert-base-chinese"),
    ],
)
def test_well_known_models(raw: dict[str, Any], parameters: int) -> None:
    recipe = rlxflow.find_recipe(raw["model_type"])
    flow = recipe.flow(recipe.config(raw, "config.json"))
    assert not flow.check()
    sizes: dict[str, int] = {}
    hidden = raw["hidden_size"]
    for spec in flow.weights():
        if spec.tied_to is None:  # a size that only the file tells is the width of a norm
            sizes[spec.key] = prod(hidden if size is None else size for size in spec.shape)
    assert sum(sizes.values()) == parameters


@pytest.mark.parametrize("model_type", goldens.default_configs())
def test_what_transformers_writes_is_understood(model_type: str) -> None:
    recipe = rlxflow.find_recipe(model_type)
    assert not recipe.flow(recipe.config(goldens.default_configs()[model_type], "config.json")).check()


def test_names() -> None:
    assert {"bert", "llama", "qwen2", "qwen3"} <= set(rlxflow.recipe_names())
    assert all(rlxflow.find_recipe(name).model_type == name for name in rlxflow.recipe_names())


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        rlxflow.find_recipe("qwen4")
    assert caught.value.code == "RLX-C001" and "'qwen" in caught.value.hint


@dataclass
class Point:
    """An entry point of another package."""

    name: str
    value: str
    loaded: Any

    def load(self) -> Any:
        if isinstance(self.loaded, Exception):
            raise self.loaded
        return self.loaded


TINY = Recipe("tiny", rlxflow.RecipeConfig, lambda config: ModelFlow("tiny"))


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Any:
    def put(*points: Point) -> None:
        monkeypatch.setattr("rlxflow.flow.recipe.entry_points", lambda group: points)

    return put


def test_a_recipe_of_another_package(install: Any) -> None:
    install(Point("tiny", "their_package:RECIPE", TINY))
    assert "tiny" in rlxflow.recipe_names()
    assert rlxflow.find_recipe("tiny") is TINY
    with pytest.raises(ConfigError) as caught:
        rlxflow.find_recipe("tinny")
    assert "did you mean 'tiny'?" in caught.value.hint


def test_a_recipe_of_another_package_for_gguf(install: Any) -> None:
    def of(*architectures: str) -> Recipe:
        gguf = rlxflow.GgufRecipe(architectures, (), lambda values: {})
        return Recipe("theirs", rlxflow.RecipeConfig, lambda config: ModelFlow("tiny"), gguf=gguf)

    theirs, same_name, late = of("mamba", "llama"), of("rwkv"), of("rwkv", "zamba")
    install(Point("aaa", "p:A", theirs), Point("rwkv", "p:B", same_name), Point("zzz", "p:C", late))
    assert find_gguf_recipe("mamba") == (theirs, theirs.gguf)
    assert find_gguf_recipe("llama")[0] is rlxflow.find_recipe("llama")  # the built-in one goes first
    assert find_gguf_recipe("rwkv")[0] is same_name
    assert find_gguf_recipe("zamba")[0] is late
    with pytest.raises(ConfigError) as caught:
        find_gguf_recipe("mambo")
    assert caught.value.code == "RLX-C040" and "did you mean 'mamba'?" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "loaded", "code", "hint"),
    [
        ("llama", TINY, "RLX-X003", "rename"),
        ("tiny", ImportError("no module named their_package"), "RLX-X004", "reinstall"),
        ("tiny", RuntimeError("odd"), "RLX-X004", "reinstall"),
        ("tiny", {"model_type": "tiny"}, "RLX-X005", "rlxflow.Recipe"),
        ("tiny", None, "RLX-X005", "rlxflow.Recipe"),
    ],
)
def test_a_recipe_that_cannot_be_used(name: str, loaded: Any, code: str, hint: str, install: Any) -> None:
    install(Point(name, "their_package:RECIPE", loaded))
    with pytest.raises(PluginError) as caught:
        rlxflow.find_recipe(name)
    assert caught.value.code == code and hint in caught.value.hint


@pytest.mark.parametrize(
    ("text", "code", "said", "place"),
    [
        ("import numpy\ndef flow(config:\n", "RLX-X004", "SyntaxError", "unfinished.py:2"),
        ("import no_such_module\n", "RLX-X004", "no_such_module", "unfinished.py:1"),
        ("from rlxflow import NoSuchStage\n", "RLX-X004", "NoSuchStage", "unfinished.py:1"),
        ("\n1 / 0\n", "RLX-X004", "ZeroDivisionError", "unfinished.py:2"),
        ("recipe = 1\n", "RLX-X005", "NoneType", ""),
        ("RECIPE = 1\n", "RLX-X005", "int", ""),
    ],
)
def test_a_recipe_file_that_is_unfinished(
    text: str, code: str, said: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its author is told the line; the models of other recipes load all the same."""
    import rlxflow.recipes

    (tmp_path / "unfinished.py").write_text(text)
    monkeypatch.setattr(rlxflow.recipes, "__path__", [*rlxflow.recipes.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "rlxflow.recipes.unfinished", raising=False)
    for use in (lambda: rlxflow.find_recipe("unfinished"), rlxflow.recipe_names):
        with pytest.raises(PluginError) as caught:
            use()
        assert caught.value.code == code and said in caught.value.message
        assert caught.value.where.endswith(place) and caught.value.hint
    assert rlxflow.find_recipe("llama").model_type == "llama"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda config: config.no_such_field, "AttributeError"),
        (lambda: None, "TypeError"),
        (lambda config: None, "NoneType, not a flow"),
    ],
)
def test_a_recipe_whose_function_fails(make: Any, said: str) -> None:
    with pytest.raises(FlowError) as caught:
        Recipe("tiny", TINY.config_class, make).flow(object())
    assert (
        caught.value.code == "RLX-F027" and said in caught.value.message and "'tiny'" in caught.value.message
    )


def test_a_checkout_that_is_not_installed_has_its_recipes() -> None:
    """In the folder of a checkout Python takes the package from there, though another one is installed."""
    root = str(Path(__file__).parents[2])
    text = f"""
import sys
from importlib.machinery import BuiltinImporter, FrozenImporter, PathFinder
sys.meta_path[:] = [BuiltinImporter, FrozenImporter, PathFinder]  # none of an editable install
sys.path.insert(0, {root!r})
from rlxflow.flow.recipe import find_recipe
print(find_recipe("qwen3").model_type)
"""
    result = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=120)
    assert (result.stdout.strip(), result.stderr) == ("qwen3", "")
