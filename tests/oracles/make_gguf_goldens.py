"""Make `goldens/gguf/*.gguf` and what they compute, `goldens/gguf.{json,npz}`.

Run with torch, transformers, gguf and llama-cpp-python:

    python tests/oracles/make_gguf_goldens.py

`gguf_models.py` writes the files with gguf-py; K-quants are packed by llama.cpp, because gguf-py cannot. What
the models compute comes from two programs that share nothing with it: Hugging Face, from the config and the
tiny weights (where quantised: after quantisation, unpacked by gguf-py), and llama.cpp, from the file. The
latter is less exact: it takes GELU from a table of half floats, and rounds activations where weights are
quantised. The script fails where the two are further apart than that explains, and prints by how much they
differ. llama.cpp also runs each file's tokenizer on a few texts.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import gguf
import llama_cpp
import numpy as np
import torch
import transformers
from gguf import GGMLQuantizationType as Quant

sys.path.insert(0, str(Path(__file__).parents[1]))

import gguf_models
from gguf_writing import WORDPIECES, stored
from golden_files import GOLDENS, write_goldens
from goldens import error
from hf_cases import LLAMA3, YARN, Config, bert, llama, qwen2, qwen3
from make_hf_goldens import SEED, Arrays, build, run
from tiny_weights import tiny_weights

TOKENS = 7

SMALL = {
    "vocab_size": len(gguf_models.gpt2_vocab()),
    "hidden_size": 32,
    "intermediate_size": 64,
    "rope_theta": 500.0,
}
WIDE = {**SMALL, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1, "num_key_value_heads": 2}
LINEAR = {"rope_type": "linear", "factor": 2.5}
# One layer of rows that K-quant blocks of 256 fit in.
BLOCKS = {
    **WIDE,
    "hidden_size": 256,
    "intermediate_size": 256,
    "num_key_value_heads": 1,
    "tie_word_embeddings": True,
}
TEXTS = [
    "the then there",
    "  spaces    and\n\nlines\t",
    "it's 12 121 2024!!",
    "<|im_start|>user\nhello<|im_end|>",
    "naïve 中文 🎉",
    "",
]


@dataclass(frozen=True)
class File:
    name: str
    config: Config
    quant: Quant = Quant.F32
    pre: str = "llama-bpe"
    apart: float = 1e-5
    """How far llama.cpp may be from Hugging Face."""
    mix: int | None = None
    """Repack with llama.cpp as this `llama_ftype`, a mixture of K-quants."""


FILES = [
    File("llama_mha", llama(**SMALL)),
    File("llama_gqa_tied", llama(**SMALL, num_key_value_heads=2, tie_word_embeddings=True), pre="smollm"),
    File("llama_mqa_bias", llama(**SMALL, num_key_value_heads=1, attention_bias=True)),
    File("llama3_rope", llama(**SMALL, num_key_value_heads=2, head_dim=16, rope_scaling=LLAMA3)),
    File("llama_linear_rope", llama(**SMALL, num_key_value_heads=2, rope_scaling=LINEAR)),
    File("qwen2_tied", qwen2(**SMALL, tie_word_embeddings=True), pre="qwen2"),
    File("qwen2_yarn", qwen2(**SMALL, rope_scaling=YARN), pre="qwen2"),
    File("qwen3", qwen3(**SMALL), pre="qwen2"),
    File("qwen3_wide_heads_tied", qwen3(**SMALL, head_dim=24, tie_word_embeddings=True), pre="qwen2"),
    File(
        "bert",
        bert(vocab_size=len(WORDPIECES), hidden_size=32, intermediate_size=64),
        apart=1e-2,
    ),
    File("llama_f16", llama(**SMALL, num_key_value_heads=2), Quant.F16, apart=1e-2),
    File("qwen2_bf16", qwen2(**SMALL), Quant.BF16, pre="qwen2", apart=3e-2),
    File("llama_q8_0", llama(**WIDE), Quant.Q8_0, apart=3e-2),
    File("llama_q4_1_tied", llama(**WIDE, tie_word_embeddings=True), Quant.Q4_1, apart=3e-2),
    File("qwen2_q4_0", qwen2(**WIDE), Quant.Q4_0, pre="qwen2", apart=3e-2),
    File("qwen3_q5_0", qwen3(**WIDE, head_dim=32), Quant.Q5_0, pre="qwen2", apart=3e-2),
    File("llama_q5_1", llama(**WIDE), Quant.Q5_1, apart=3e-2),
    File("qwen2_q2_k", qwen2(**BLOCKS), pre="qwen2", apart=3e-2, mix=llama_cpp.LLAMA_FTYPE_MOSTLY_Q2_K),
    File("qwen2_q4_k_m", qwen2(**BLOCKS), pre="qwen2", apart=3e-2, mix=llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M),
    File("qwen2_q5_k_s", qwen2(**BLOCKS), pre="qwen2", apart=3e-2, mix=llama_cpp.LLAMA_FTYPE_MOSTLY_Q5_K_S),
]


def llama_cpp_output(path: Path, ids: list[int], encoder: bool) -> np.ndarray:
    """Logits, or hidden states of an encoder, [1, S, n]; the KV cache holds float32."""
    model = llama_cpp.Llama(
        str(path),
        n_ctx=64,
        n_batch=64,
        n_threads=1,
        logits_all=True,
        embedding=encoder,
        pooling_type=llama_cpp.LLAMA_POOLING_TYPE_NONE,
        type_k=gguf.GGMLQuantizationType.F32,
        type_v=gguf.GGMLQuantizationType.F32,
        flash_attn=False,
        verbose=False,
    )
    if encoder:
        tokens = (llama_cpp.llama_token * len(ids))(*ids)
        assert llama_cpp.llama_encode(model.ctx, llama_cpp.llama_batch_get_one(tokens, len(ids))) == 0
        values = llama_cpp.llama_get_embeddings(model.ctx)[: len(ids) * model.n_embd()]
        return np.array(values, np.float32).reshape(1, len(ids), model.n_embd())
    model.eval(ids)
    return np.array(model.scores[: len(ids)], np.float32)[None]


def repack(path: Path, mix: int) -> None:
    """Quantise the float32 file `path` in place with llama.cpp."""
    plain = path.rename(path.with_suffix(".f32"))
    settings = llama_cpp.llama_model_quantize_default_params()
    settings.ftype, settings.nthread = mix, 1
    failed = llama_cpp.llama_model_quantize(str(plain).encode(), str(path).encode(), settings)
    assert failed == 0
    plain.unlink()


def unpack(path: Path, shapes: dict[str, tuple[int, ...]], layers: int) -> tuple[Arrays, set[str]]:
    """The file's tensors as float32 under Hugging Face names (rows as they are), and their types."""
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN2, layers)
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    arrays = {}
    for key, shape in shapes.items():
        tensor = tensors[names.get_name(key, try_suffixes=(".weight", ".bias"))]
        arrays[key] = gguf.dequantize(tensor.data, tensor.tensor_type).reshape(shape).astype(np.float32)
    return arrays, {tensor.tensor_type.name.lower() for tensor in tensors.values()}


def tokens(path: Path) -> list[list[int]]:
    model = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
    return [list(model.tokenize(text.encode(), add_bos=True, special=True)) for text in TEXTS]


def make(file: File) -> tuple[dict[str, object], Arrays]:
    """Write one file; its record, and its arrays: input_ids, the output, and llama_cpp."""
    path = GOLDENS / "gguf" / f"{file.name}.gguf"
    model, shapes = build(file.config)
    weights = tiny_weights(shapes, SEED)
    gguf_models.write(path, file.config, weights, file.quant, file.pre)
    held, types = stored(weights, file.quant), {file.quant.name.lower(), "f32"}
    if file.mix is not None:
        repack(path, file.mix)
        held, types = unpack(path, shapes, file.config["num_hidden_layers"])
    state = {key: torch.from_numpy(value) for key, value in held.items()}
    encoder = "lm_head.weight" not in model.state_dict()
    if not encoder:
        state.setdefault("lm_head.weight", state["model.embed_tokens.weight"])
    model.load_state_dict(state, strict=True)

    ids = np.random.default_rng(len(file.name)).integers(0, file.config["vocab_size"], (1, TOKENS))
    inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "position_ids": np.arange(TOKENS)[None]}
    expected = run(model, inputs)
    theirs = llama_cpp_output(path, ids[0].tolist(), encoder)
    apart = error(theirs, expected)
    size = path.stat().st_size
    print(f"{file.name:22} {size:7} bytes of {sorted(types)}, llama.cpp is {apart:.1e} from Hugging Face")
    assert apart <= file.apart, file.name
    output = "last_hidden_state" if encoder else "logits"
    record = {
        "name": file.name,
        "tags": sorted(types),
        "config": file.config,
        "shapes": shapes,
        "token_ids": tokens(path),
    }
    return record, {**inputs, output: expected, "llama_cpp": theirs}


def main() -> None:
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    (GOLDENS / "gguf").mkdir(exist_ok=True)
    arrays: Arrays = {}
    records = []
    for file in FILES:
        record, values = make(file)
        records.append(record)
        arrays |= {f"{file.name}/{key}": value for key, value in values.items()}
    write_goldens("gguf", records, arrays, SEED, ("gguf", "llama-cpp-python", "transformers"), texts=TEXTS)


if __name__ == "__main__":
    main()
