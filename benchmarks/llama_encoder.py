"""MiniLM by llama.cpp: an f32 GGUF file as its converter writes it, and the last hidden states from ids."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

BATCH = 512  # tokens that are computed together, as by default; attention masks what is between sequences
SEQUENCES = 32


def export_gguf(model: Path, target: Path) -> None:
    """The model without its vocabulary, which nothing here reads; no pooling."""
    import gguf
    from safetensors.numpy import load_file

    config = json.loads((model / "config.json").read_text("utf-8"))
    layers = config["num_hidden_layers"]
    writer = gguf.GGUFWriter(target, "bert")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(layers)
    writer.add_head_count(config["num_attention_heads"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.NONE)
    writer.add_token_type_count(config["type_vocab_size"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("no_vocab")
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.BERT, layers)
    for key, value in load_file(model / "model.safetensors").items():
        key = key.removeprefix("bert.")
        if "pooler" not in key and "position_ids" not in key:
            writer.add_tensor(names.get_name(key, (".weight", ".bias")), value.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def llama_cpp_run(path: Path, threads: int) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    import llama_cpp as api
    from decoder_engines import silent

    api.llama_log_set(silent(api), None)
    api.llama_backend_init()
    model = api.llama_model_load_from_file(bytes(path), api.llama_model_default_params())
    settings = api.llama_context_default_params()
    settings.n_ctx = settings.n_batch = settings.n_ubatch = BATCH
    settings.n_seq_max = SEQUENCES
    settings.n_threads = settings.n_threads_batch = threads
    settings.embeddings = True
    context = api.llama_init_from_model(model, settings)
    if not context:
        raise RuntimeError(f"llama.cpp does not load {path}")
    width = api.llama_model_n_embd(model)
    batch = api.llama_batch_init(BATCH, 0, 1)
    fields = (batch.token, batch.pos, batch.n_seq_id, batch.logits)
    token, position, count, wanted = (np.ctypeslib.as_array(field, (BATCH,)) for field in fields)
    count[:], wanted[:] = 1, 1
    sequence = np.zeros(BATCH, np.int32)
    for i in range(BATCH):
        place = ctypes.c_void_p(sequence.ctypes.data + 4 * i)
        batch.seq_id[i] = ctypes.cast(place, ctypes.POINTER(api.llama_seq_id))

    def run(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        hidden = np.zeros((*ids.shape, width), np.float32)
        for rows in _batches(mask.sum(1)):
            row, column = mask[rows].nonzero()
            size = batch.n_tokens = len(row)
            token[:size], position[:size], sequence[:size] = ids[rows][row, column], column, row
            if api.llama_encode(context, batch):
                raise RuntimeError("llama_encode failed")
            found = np.ctypeslib.as_array(api.llama_get_embeddings(context), (size, width))
            hidden[rows][row, column] = found
        return hidden

    return run


def _batches(lengths: np.ndarray) -> Iterator[slice]:
    """Neighbouring rows of at most BATCH tokens."""
    start = 0
    for row in range(1, len(lengths) + 1):
        if row == len(lengths) or lengths[start : row + 1].sum() > BATCH:
            yield slice(start, row)
            start = row
