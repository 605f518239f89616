"""GGUF metadata → HF config: what comes out, and what is refused."""

from __future__ import annotations

import gguf_bytes as g
import pytest

from rlxflow.errors import ConfigError
from rlxflow.runtime.model_files import GgufModelFiles
from rlxflow.weights.gguf import GgufFile
from rlxflow.weights.gguf_config import gguf_pooling

AGAIN, TWO_MODELS = "convert the model again", "two models"


def config_of(tmp_path, content: bytes) -> dict:
    return GgufModelFiles(g.write(tmp_path, content)).config


def test_llama(tmp_path):
    assert config_of(tmp_path, g.llama(tokenizer__ggml__bos_token_id=1)) == {
        "model_type": "llama",
        "num_hidden_layers": 2,
        "hidden_size": 8,
        "intermediate_size": 16,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 4,
        "hidden_act": "silu",
        "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        "tie_word_embeddings": True,
        "attention_bias": False,
        "mlp_bias": False,
        "vocab_size": 5,
        "bos_token_id": 1,
        "eos_token_id": 4,
    }


def as_architecture(name: str, **changes) -> dict:
    metadata = {key.replace("llama.", f"{name}."): value for key, value in g.TINY_LLAMA.items()}
    return (
        metadata
        | {"general.architecture": name}
        | {f"{name}.{k.replace('__', '.')}": v for k, v in changes.items()}
    )


def test_qwen3_with_its_own_head_dim_and_untied_head(tmp_path):
    metadata = as_architecture(
        "qwen3", attention__key_length=6, attention__value_length=6, rope__dimension_count=None
    )
    tensors = g.TINY_TENSORS | {"output.weight": [8, 5], "blk.0.attn_q.bias": [12]}
    config = config_of(tmp_path, g.model(metadata, tensors))
    assert (config["model_type"], config["head_dim"], config["tie_word_embeddings"]) == ("qwen3", 6, False)
    assert config["attention_bias"] is True and "mlp_bias" not in config


def test_qwen2_partial_rotary_and_default_heads(tmp_path):
    metadata = as_architecture(
        "qwen2", rope__dimension_count=2, rope__freq_base=None, attention__head_count_kv=None
    )
    config = config_of(tmp_path, g.model(metadata))
    expected = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}
    assert config["rope_parameters"] == expected
    assert config["num_key_value_heads"] == 2 and "attention_bias" not in config


BERT = {
    "general.architecture": "bert",
    "bert.block_count": 2,
    "bert.context_length": 16,
    "bert.embedding_length": 8,
    "bert.feed_forward_length": 32,
    "bert.attention.head_count": 2,
    "bert.attention.layer_norm_epsilon": 1e-12,
    "bert.attention.causal": False,
    "bert.pooling_type": 1,
    "tokenizer.ggml.tokens": ["a", "b", "c"],
    "tokenizer.ggml.padding_token_id": 0,
}
BERT_TENSORS = {"token_embd.weight": [8, 3], "token_types.weight": [8, 2], "position_embd.weight": [8, 16]}


def test_bert(tmp_path):
    assert config_of(tmp_path, g.model(BERT, BERT_TENSORS)) == {
        "model_type": "bert",
        "num_hidden_layers": 2,
        "hidden_size": 8,
        "intermediate_size": 32,
        "num_attention_heads": 2,
        "max_position_embeddings": 16,
        "hidden_act": "gelu",
        "position_embedding_type": "absolute",
        "layer_norm_eps": 1e-12,
        "type_vocab_size": 2,
        "vocab_size": 3,
        "pad_token_id": 0,
    }


@pytest.mark.parametrize("kind, pooling", [(0, None), (1, "mean"), (2, "cls"), (3, "last"), (None, None)])
def test_pooling(tmp_path, kind, pooling):
    file = GgufFile(g.write(tmp_path, g.model(BERT | {"bert.pooling_type": kind}, BERT_TENSORS)))
    assert gguf_pooling(file) == pooling


def test_per_layer_values_that_agree_and_neutral_keys(tmp_path):
    config = config_of(tmp_path, g.llama(
        feed_forward_length=[16, 16], attention__head_count=[2, 2], attention__head_count_kv=[1, 1],
        expert_count=0, attention__clamp_kqv=0.0, rope__scaling__finetuned=True,
        rope__scaling__original_context_length=64,
    ))  # fmt: skip
    assert (config["intermediate_size"], config["num_attention_heads"], config["num_key_value_heads"]) == (
        16,
        2,
        1,
    )


YARN = {
    "rope__scaling__type": "yarn",
    "rope__scaling__factor": 4.0,
    "rope__scaling__original_context_length": 32,
}


def refuse(path, code: str, hint: str, message: str = "") -> None:
    with pytest.raises(ConfigError) as caught:
        _ = GgufModelFiles(path).config
    problem = caught.value
    assert problem.code == f"RLX-{code}" and hint in problem.hint and message in problem.message
    assert problem.where == str(path) and "\n" not in problem.message


NO_ARCHITECTURE = {k: v for k, v in g.TINY_LLAMA.items() if k != "general.architecture"}
# name: (file, code, part of the hint, part of the message)
CASES = {
    "G42-architecture-missing": (g.model(NO_ARCHITECTURE), "C040", AGAIN, "is missing"),
    "G42-architecture-not-a-string": (g.llama(general__architecture=7), "C040", AGAIN, "is not a string"),
    "G42-architecture-unknown": (
        g.llama(general__architecture="rwkv7"),
        "C040",
        "known architectures",
        "'rwkv7'",
    ),
    "G42-architecture-misspelt": (
        g.llama(general__architecture="qwen_2"),
        "C040",
        "did you mean 'qwen2'",
        "qwen_2",
    ),
    "G42-block-count-missing": (g.llama(block_count=None), "C041", AGAIN, "no llama.block_count"),
    "G42-width-missing": (g.llama(embedding_length=None), "C041", AGAIN, "no llama.embedding_length"),
    "G42-heads-missing": (g.llama(attention__head_count=None), "C041", AGAIN, "attention.head_count"),
    "G42-ffn-missing": (g.llama(feed_forward_length=None), "C041", AGAIN, "feed_forward_length"),
    "G42-context-missing": (g.llama(context_length=None), "C041", AGAIN, "context_length"),
    "G42-eps-missing": (g.llama(attention__layer_norm_rms_epsilon=None), "C041", AGAIN, "rms_epsilon"),
    "G42-block-count-string": (g.llama(block_count="2"), "C042", AGAIN, "not a whole number"),
    "G42-block-count-float": (g.llama(block_count=2.0), "C042", AGAIN, "not a whole number"),
    "G42-block-count-bool": (g.llama(block_count=True), "C042", AGAIN, "not a whole number"),
    "G42-block-count-zero": (g.llama(block_count=0), "C042", AGAIN, "outside"),
    "G42-block-count-negative": (g.llama(block_count=-1), "C042", AGAIN, "outside"),
    "G42-block-count-huge": (g.llama(block_count=2**31), "C042", AGAIN, "outside"),
    "G42-eps-zero": (g.llama(attention__layer_norm_rms_epsilon=0.0), "C042", AGAIN, "above zero"),
    "G42-eps-nan": (g.llama(attention__layer_norm_rms_epsilon=float("nan")), "C042", AGAIN, "finite"),
    "G42-eps-string": (g.llama(attention__layer_norm_rms_epsilon="1e-5"), "C042", AGAIN, "not a number"),
    "G42-zero-heads": (g.llama(attention__head_count=0), "C042", AGAIN, "outside"),
    "G42-zero-kv-heads": (g.llama(attention__head_count_kv=0), "C042", AGAIN, "outside"),
    "G42-heads-do-not-divide-width": (
        g.llama(attention__head_count=3, attention__head_count_kv=3),
        "C043",
        AGAIN,
        "8 does not divide into 3",
    ),
    "G42-kv-heads-do-not-divide": (
        g.llama(attention__head_count=4, attention__head_count_kv=3),
        "C043",
        AGAIN,
        "do not divide",
    ),
    "G42-more-kv-heads-than-heads": (g.llama(attention__head_count_kv=4), "C043", AGAIN, "do not divide"),
    "G42-array-of-wrong-length": (
        g.llama(attention__head_count=[2, 2, 2]),
        "C043",
        AGAIN,
        "3 values for 2 layers",
    ),
    "G42-layers-differ": (g.llama(feed_forward_length=[16, 24]), "C044", "all alike", "differs from layer"),
    "G42-array-of-strings": (g.llama(attention__head_count=["2", "2"]), "C042", AGAIN, "not a whole number"),
    "G42-array-where-a-number-belongs": (g.llama(block_count=[2]), "C042", AGAIN, "not a whole number"),
    "G42-key-and-value-sizes-differ": (g.llama(attention__value_length=8), "C044", "equal", "per head"),
    "G42-rotary-dims-of-llama": (
        g.llama(rope__dimension_count=2),
        "C043",
        AGAIN,
        "rope.dimension_count is 2",
    ),
    "G42-rotary-dims-too-many": (
        g.llama(rope__dimension_count=8),
        "C043",
        AGAIN,
        "rope.dimension_count is 8",
    ),
    "G42-not-causal": (g.llama(attention__causal=False), "C044", "variant", "causal is not true"),
    "G42-causal-not-a-bool": (g.llama(attention__causal=1), "C042", AGAIN, "not true or false"),
    "G42-experts": (g.llama(expert_count=8), "C044", "may change", "llama.expert_count"),
    "G42-sliding-window": (g.llama(attention__sliding_window=64), "C044", "may change", "sliding_window"),
    "G42-softcap": (g.llama(attn_logit_softcapping=50.0), "C044", "may change", "softcapping"),
    "G42-logit-scale": (g.llama(logit_scale=0.5), "C044", "may change", "logit_scale"),
    "G42-rope-type-unknown": (g.llama(rope__scaling__type="ntk"), "C044", "safetensors", "'ntk'"),
    "G42-rope-type-a-number": (g.llama(rope__scaling__type=1), "C042", AGAIN, "not a string"),
    "G42-rope-factor-zero": (g.llama(rope__scaling__factor=0.0), "C042", AGAIN, "above zero"),
    "G42-rope-factor-without-type": (
        g.llama(rope__scaling__type="none", rope__scaling__factor=2.0),
        "C043",
        "safetensors",
        "with scaling type none",
    ),
    "G42-rope-theta-negative": (g.llama(rope__freq_base=-1.0), "C042", AGAIN, "above zero"),
    "G42-yarn-without-context": (
        g.llama(**YARN | {"rope__scaling__original_context_length": None}),
        "C041",
        AGAIN,
        "original_context_length",
    ),
    "G42-yarn-ext-factor": (
        g.llama(**YARN, rope__scaling__yarn_ext_factor=0.5),
        "C044",
        "safetensors",
        "ext_factor",
    ),
    "G42-yarn-attn-factor": (
        g.llama(**YARN, rope__scaling__yarn_attn_factor=1.0),
        "C044",
        "may change",
        "attn_factor",
    ),
    "G42-yarn-log-multiplier": (
        g.llama(**YARN, rope__scaling__yarn_log_multiplier=0.1),
        "C044",
        "may change",
        "log_multiplier",
    ),
    "G42-bert-causal": (
        g.model(BERT | {"bert.attention.causal": True}, BERT_TENSORS),
        "C044",
        "variant",
        "causal",
    ),
    "G42-bert-kv-heads": (
        g.model(BERT | {"bert.attention.head_count_kv": 1}, BERT_TENSORS),
        "C043",
        AGAIN,
        "as many key-value heads",
    ),
    "G42-bert-head-size": (
        g.model(BERT | {"bert.attention.key_length": 8}, BERT_TENSORS),
        "C043",
        AGAIN,
        "are not 8 wide",
    ),
    "G42-bert-rotary": (
        g.model(BERT | {"bert.rope.freq_base": 1e4}, BERT_TENSORS),
        "C044",
        "may change",
        "bert.rope",
    ),
    "G42-bert-without-token-types": (
        g.model(BERT, {"token_embd.weight": [8, 3]}),
        "C041",
        "not a whole model",
        "token_types.weight",
    ),
    "G42-eos-out-of-range": (g.llama(tokenizer__ggml__eos_token_id=5), "C042", AGAIN, "eos_token_id is 5"),
    "G42-bos-not-an-id": (g.llama(tokenizer__ggml__bos_token_id="<s>"), "C042", AGAIN, "bos_token_id is <s>"),
    "G44-vocab-size-differs": (g.llama(vocab_size=6), "C043", TWO_MODELS, "llama.vocab_size is 6"),
    "G44-token-count-differs": (
        g.llama(tokenizer__ggml__tokens=["a", "b"]),
        "C043",
        TWO_MODELS,
        "number of tokens is 2",
    ),
    "G44-no-embedding": (
        g.model(g.TINY_LLAMA, {"output_norm.weight": [8]}),
        "C041",
        "not a whole model",
        "token_embd.weight",
    ),
    "G44-embedding-of-another-width": (
        g.model(g.TINY_LLAMA, {"token_embd.weight": [4, 5]}),
        "C043",
        TWO_MODELS,
        "embedding_length is 8",
    ),
    "G44-embedding-of-rank-1": (g.model(g.TINY_LLAMA, {"token_embd.weight": [8]}), "C043", TWO_MODELS, "[8]"),
}


@pytest.mark.parametrize("name", CASES)
def test_refused(tmp_path, name):
    content, code, hint, message = CASES[name]
    refuse(g.write(tmp_path, content), code, hint, message)


def test_unknown_keys_are_all_named(tmp_path):
    path = g.write(tmp_path, g.llama(**{f"new_setting_{i}": i for i in range(10)}))
    refuse(path, "C044", "may change", "llama.new_setting_7 and 2 more")


def test_unknown_pooling(tmp_path):
    file = GgufFile(g.write(tmp_path, g.model(BERT | {"bert.pooling_type": 4}, BERT_TENSORS)))
    with pytest.raises(ConfigError) as caught:
        gguf_pooling(file)
    assert caught.value.code == "RLX-C043" and "mean" in caught.value.hint
