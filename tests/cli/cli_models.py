"""Tiny model directories with tokenizers, a sparse large one, and running the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import goldens
import tokenizers
from model_files import write_golden, write_json
from tokenizers import models, pre_tokenizers

WORDS = ["[UNK]", "</s>", "the", "a", "cat", "dog", "sat", "on", "mat", "rug", "is", "very", "small", "user"]
CHAT_TEMPLATE = "{% for m in messages %}{{ m['role'] }} {{ m['content'] }} {% endfor %}"


@dataclass(frozen=True)
class Result:
    """What a command did. `data` is its JSON output."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)


def run_process(*argv: str, environment: dict[str, str] | None = None, **options: Any) -> Any:
    """`python -m rlxflow …` as a process of its own, its output as bytes."""
    env = {**os.environ, **(environment or {})}
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": 60, **options}
    return subprocess.run([sys.executable, "-m", "rlxflow", *argv], env=env, check=False, **options)


def write_bert(folder: Path) -> Path:
    """A BERT that embeds: mean pooling, normalised, at most 16 tokens."""
    write_golden(folder, goldens.hf_case("bert", "plain"))
    _write_tokenizer(folder)
    kind = "sentence_transformers.models"
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": f"{kind}.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": f"{kind}.Pooling"},
        {"idx": 2, "name": "2", "path": "2_Normalize", "type": f"{kind}.Normalize"},
    ]
    write_json(folder / "modules.json", modules)
    (folder / "1_Pooling").mkdir()
    write_json(folder / "1_Pooling" / "config.json", {"pooling_mode_mean_tokens": True})
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 16})
    return folder


def write_llama(folder: Path) -> Path:
    """A Llama that writes words and has a chat template."""
    write_golden(folder, goldens.hf_case("llama", "gqa_tied"))
    _write_tokenizer(folder)
    write_json(folder / "tokenizer_config.json", {"eos_token": "</s>", "chat_template": CHAT_TEMPLATE})
    return folder


def _write_tokenizer(folder: Path) -> None:
    words = [*WORDS, *(f"w{i}" for i in range(101 - len(WORDS)))]  # as many as both models have rows
    tokenizer = tokenizers.Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(["</s>"])
    tokenizer.save(str(folder / "tokenizer.json"))


def write_sparse_llama(folder: Path, layers: int = 32, shards: int = 40) -> int:
    """A Llama of 8B parameters in bf16 whose data is a hole in each file; returns its bytes."""
    hidden, inner, kv, vocab = 4096, 14336, 1024, 128256
    config = {
        "model_type": "llama",
        "vocab_size": vocab,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
        "tie_word_embeddings": False,
    }
    shapes = {"model.embed_tokens.weight": [vocab, hidden], "lm_head.weight": [vocab, hidden]}
    shapes["model.norm.weight"] = [hidden]
    for i in range(layers):
        sizes = {"q": hidden, "k": kv, "v": kv, "o": hidden}
        shapes |= {f"model.layers.{i}.self_attn.{n}_proj.weight": [rows, hidden] for n, rows in sizes.items()}
        shapes |= {f"model.layers.{i}.mlp.{n}_proj.weight": [inner, hidden] for n in ("gate", "up")}
        shapes[f"model.layers.{i}.mlp.down_proj.weight"] = [hidden, inner]
        for norm in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"model.layers.{i}.{norm}.weight"] = [hidden]
    folder.mkdir(parents=True)
    write_json(folder / "config.json", config)
    keys, weight_map, total = list(shapes), {}, 0
    for part in range(shards):
        name = f"model-{part + 1:05}-of-{shards:05}.safetensors"
        own = keys[part::shards]
        weight_map |= dict.fromkeys(own, name)
        total += _write_sparse(folder / name, {key: shapes[key] for key in own})
    write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": weight_map})
    return total


def _write_sparse(path: Path, shapes: dict[str, list[int]]) -> int:
    header, at = {}, 0
    for key, shape in shapes.items():
        size = 2 * prod(shape)
        header[key] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + at)
    return at
