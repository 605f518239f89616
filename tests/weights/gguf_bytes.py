"""GGUF files written byte by byte, so that each field can be made wrong. Shares no code with rlxflow."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
TYPE_F32, TYPE_F16, TYPE_Q4_0, TYPE_Q4_K, TYPE_IQ2_XXS = 0, 1, 2, 12, 16


def u32(value: int) -> bytes:
    return struct.pack("<I", value)


def u64(value: int) -> bytes:
    return struct.pack("<Q", value & (2**64 - 1))


def string(text: str | bytes, length: int | None = None) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return u64(len(raw) if length is None else length) + raw


def array(kind: int, count: int, payload: bytes) -> bytes:
    return u32(kind) + u64(count) + payload


def pair(key: str | bytes, kind: int, payload: bytes) -> bytes:
    return string(key) + u32(kind) + payload


def encode(key: str, value: Any) -> bytes:
    """A key with a Python value: int → u32, float → f32, str, bool, bytes → string, list of one of these."""
    kind, payload = _encode_value(value)
    return pair(key, kind, payload)


def _encode_value(value: Any) -> tuple[int, bytes]:
    if isinstance(value, bool):
        return BOOL, bytes([value])
    if isinstance(value, int):
        return (U32, u32(value)) if value >= 0 else (I32, struct.pack("<i", value))
    if isinstance(value, float):
        return F32, struct.pack("<f", value)
    if isinstance(value, list):
        items = [_encode_value(item) for item in value]
        return ARRAY, array(items[0][0], len(items), b"".join(payload for _, payload in items))
    return STRING, string(value)


def tensor(name: str | bytes, dims: list[int], kind: int = TYPE_F32, offset: int = 0) -> bytes:
    """One tensor entry; `dims` in file order, the row length first."""
    return string(name) + u32(len(dims)) + b"".join(u64(size) for size in dims) + u32(kind) + u64(offset)


def build(
    *,
    magic: bytes = b"GGUF",
    version: bytes = u32(3),
    pairs: list[bytes] | None = None,
    tensors: list[bytes] | None = None,
    pair_count: int | None = None,
    tensor_count: int | None = None,
    alignment: int = 32,
    data: bytes | None = None,
) -> bytes:
    """A small valid file (one string, tensors a f32[2, 3] and b f32[8]), with any part replaced."""
    if pairs is None:
        pairs = [encode("general.architecture", "llama")]
    if tensors is None:
        tensors = [tensor("a", [3, 2]), tensor("b", [8], offset=32)]
    if data is None:
        data = struct.pack("<6f", *range(6)) + bytes(8) + struct.pack("<8f", *range(8))
    head = magic + version
    head += u64(len(tensors) if tensor_count is None else tensor_count)
    head += u64(len(pairs) if pair_count is None else pair_count)
    head += b"".join(pairs) + b"".join(tensors)
    return head + bytes(-len(head) % alignment) + data


TINY_LLAMA: dict[str, Any] = {
    "general.architecture": "llama",
    "llama.block_count": 2,
    "llama.context_length": 64,
    "llama.embedding_length": 8,
    "llama.feed_forward_length": 16,
    "llama.attention.head_count": 2,
    "llama.attention.head_count_kv": 1,
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
    "llama.rope.freq_base": 10000.0,
    "llama.rope.dimension_count": 4,
    "llama.vocab_size": 5,
    "tokenizer.ggml.tokens": ["a", "b", "c", "d", "e"],
    "tokenizer.ggml.eos_token_id": 4,
}
TINY_TENSORS: dict[str, list[int]] = {"token_embd.weight": [8, 5], "output_norm.weight": [8]}


def model(
    metadata: dict[str, Any], tensors: dict[str, list[int]] = TINY_TENSORS, value: float = 1.0
) -> bytes:
    """A file with these keys (None: left out) and f32 tensors of one value."""
    entries, data = [], b""
    for name, dims in tensors.items():
        count = 1
        for size in dims:
            count *= size
        entries.append(tensor(name, dims, offset=len(data)))
        data += struct.pack("<f", value) * count
        data += bytes(-len(data) % 32)
    pairs = [encode(key, item) for key, item in metadata.items() if item is not None]
    return build(pairs=pairs, tensors=entries, data=data)


def llama(**changes: Any) -> bytes:
    """TINY_LLAMA with changed keys; `__` stands for `.` and the prefix `llama.` may be left out."""
    metadata = dict(TINY_LLAMA)
    for name, value in changes.items():
        key = name.replace("__", ".")
        known = key in metadata or key.startswith(("general.", "tokenizer."))
        metadata[key if known else f"llama.{key}"] = value
    return model(metadata)


def write(folder: Path, content: bytes, name: str = "model.gguf") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path
