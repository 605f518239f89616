"""Valid GGUF files, most of them written by gguf-py; files that change; exhaustive damage to a small one."""

from __future__ import annotations

import math
import os
import struct
import tracemalloc
from decimal import Decimal

import gguf
import gguf_bytes as g
import numpy as np
import pytest
from effort import calls_of

from rlxflow.dequantize import dequantize
from rlxflow.dtypes import DTYPES
from rlxflow.errors import RlxError, WeightsError
from rlxflow.runtime.model_files import GgufModelFiles
from rlxflow.weights.gguf import GgufFile
from rlxflow.weights.source import WeightSource

TYPES = {t.name.lower(): t for t in gguf.GGMLQuantizationType}
LISTED = sorted(set(TYPES) - set(DTYPES))


def finish(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def raw_tensor(writer: gguf.GGUFWriter, name: str, kind: str, rows: int, seed: int) -> np.ndarray:
    """Random bytes as a tensor of `rows` rows of 256 elements of the type `kind`."""
    block, size = gguf.GGML_QUANT_SIZES[TYPES[kind]]
    data = np.random.default_rng(seed).integers(0, 256, (rows, 256 // block * size), np.uint8)
    writer.add_tensor(name, data, raw_dtype=TYPES[kind])
    return data


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.gguf"


def test_every_type_that_gguf_py_writes(path):
    writer = gguf.GGUFWriter(path, "llama")
    # gguf-py gives q8_1 blocks 40 bytes; in ggml they are 36, and no file holds any.
    kinds = [kind for kind in TYPES if kind != "q8_1"]
    stored = {kind: raw_tensor(writer, f"t.{kind}", kind, 3, index) for index, kind in enumerate(kinds)}
    finish(writer)
    file = GgufFile(path)
    assert isinstance(file, WeightSource)
    assert list(file.keys()) == [f"t.{kind}" for kind in kinds]
    for kind in kinds:
        info = file.info(f"t.{kind}")
        assert (info.dtype.name, info.shape) == (kind, (3, 256))
        if kind in DTYPES:
            data = file.read(f"t.{kind}")
            assert data.tobytes() == stored[kind].tobytes()
            assert data.flags.c_contiguous and info.nbytes == data.nbytes
            assert data.shape == (stored[kind].shape if info.dtype.packed else (3, 256))


@pytest.mark.parametrize("kind", ["q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "bf16", "f16"])
def test_values_that_gguf_py_quantised(path, kind):
    values = np.random.default_rng(1).normal(0, 1, (5, 64)).astype(np.float32)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tensor("x", gguf.quants.quantize(values, TYPES[kind]), raw_dtype=TYPES[kind])
    finish(writer)
    tensor = gguf.GGUFReader(path).tensors[0]
    expected = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
    file = GgufFile(path)
    data, info = file.read("x"), file.info("x")
    ours = dequantize(info.dtype, data) if info.dtype.packed else data.astype(np.float32)
    assert np.array_equal(ours.view(np.uint32), expected.view(np.uint32))


def test_shapes_are_row_major(path):
    writer = gguf.GGUFWriter(path, "llama")
    arrays = {
        f"r{rank}": np.arange(24, dtype=np.float32).reshape(shape)
        for rank, shape in enumerate([(24,), (4, 6), (2, 3, 4), (2, 1, 3, 4)])
    }
    arrays["scalar"] = np.array(7, np.float32)
    for name, array in arrays.items():
        writer.add_tensor(name, array)
    finish(writer)
    file = GgufFile(path)
    for name, array in arrays.items():
        assert file.info(name).shape == array.shape
        assert np.array_equal(file.read(name), array)


def test_all_metadata_types(path):
    values = {
        "u8": (255, "UINT8"), "i8": (-128, "INT8"), "u16": (65535, "UINT16"), "i16": (-32768, "INT16"),
        "u32": (2**32 - 1, "UINT32"), "i32": (-(2**31), "INT32"), "u64": (2**64 - 1, "UINT64"),
        "i64": (-(2**63), "INT64"), "f32": (0.5, "FLOAT32"), "f64": (math.pi, "FLOAT64"),
        "bool": (True, "BOOL"), "string": ("tëxt\n", "STRING"), "empty": ("", "STRING"),
    }  # fmt: skip
    arrays = {"ints": [1, -2], "floats": [0.1, 1e-5], "strings": ["a", "", "ü"], "bools": [True, False]}
    writer = gguf.GGUFWriter(path, "llama")
    for key, (value, kind) in values.items():
        writer.add_key_value(key, value, gguf.GGUFValueType[kind])
    for key, items in arrays.items():
        writer.add_array(key, items)
    finish(writer)
    metadata = GgufFile(path).metadata
    expected = {key: value for key, (value, _) in values.items()} | arrays | {"general.architecture": "llama"}
    assert metadata == expected
    assert {key: type(value) for key, value in metadata.items()} == {k: type(v) for k, v in expected.items()}


def test_float32_metadata_is_the_shortest_decimal(path):
    rng = np.random.default_rng(3)
    values = rng.integers(0, 2**32, 2000, np.uint32).view(np.float32)
    values = [float(v) for v in values[np.isfinite(values)]] + [0.0, 1e-5, 1e-6, 1e-12, 500000.0, 0.1]
    path.write_bytes(g.build(pairs=[g.encode("values", values), g.encode("eps", 1e-6)]))
    metadata = GgufFile(path).metadata
    assert metadata["eps"] == 1e-6 and metadata["values"][-5:] == [1e-5, 1e-6, 1e-12, 500000.0, 0.1]
    for value, stored in zip(metadata["values"], values, strict=True):
        assert np.float32(value) == np.float32(stored)
        digits = Decimal(repr(value)).normalize().as_tuple().digits
        assert len(digits) <= 9
        shorter = float(f"{value:.{max(len(digits) - 2, 0)}e}")
        assert len(digits) == 1 or np.float32(shorter) != np.float32(stored)


def test_float_metadata_may_be_infinite_or_nan(path):
    path.write_bytes(g.build(pairs=[g.encode("k", [math.inf, -math.inf, math.nan])]))
    values = GgufFile(path).metadata["k"]
    assert values[:2] == [math.inf, -math.inf] and math.isnan(values[2])


def test_G41_tokens_keep_their_bytes(path):
    tokens = [b"plain", b"\xff\xfe", b"\xc3", "ü".encode(), b"\xed\xa0\x80", b"nul\0"]
    path.write_bytes(g.build(pairs=[g.encode("tokenizer.ggml.tokens", tokens)]))
    texts = GgufFile(path).metadata["tokenizer.ggml.tokens"]
    assert [text.encode("utf-8", "surrogateescape") for text in texts] == tokens
    assert texts[0] == "plain" and texts[3] == "ü"


@pytest.mark.parametrize("tokens", [["plain", "", "ü"], ["a\0b", "c"], ["\0"], [""]], ids=repr)
def test_strings_are_whole(path, tokens):
    path.write_bytes(g.build(pairs=[g.encode("k", [t.encode() for t in tokens]), g.encode("after", "x")]))
    assert GgufFile(path).metadata == {"k": tokens, "after": "x"}


@pytest.mark.parametrize("trailing", [0, 1, 31, 4096], ids=lambda n: f"trailing-{n}")
@pytest.mark.parametrize("alignment", [1, 8, 32, 2**20])
@pytest.mark.parametrize("version", [2, 3])
def test_G27_G40_valid_files(path, version, alignment, trailing):
    gap = -24 % alignment
    data = struct.pack("<6f", *range(6)) + bytes(gap) + struct.pack("<8f", *range(8))
    pairs = [g.encode("general.architecture", "llama"), g.encode("general.alignment", alignment)]
    tensors = [g.tensor("a", [3, 2]), g.tensor("b", [8], offset=24 + gap)]
    content = g.build(version=g.u32(version), pairs=pairs, tensors=tensors, alignment=alignment, data=data)
    path.write_bytes(content + bytes(trailing))
    file = GgufFile(path)
    assert np.array_equal(file.read("a"), np.arange(6, dtype=np.float32).reshape(2, 3))
    assert np.array_equal(file.read("b"), np.arange(8, dtype=np.float32))


@pytest.mark.parametrize("trailing", [0, 7])
@pytest.mark.parametrize("pairs", [[], [g.encode("general.architecture", "llama")]], ids=["no-keys", "keys"])
def test_G27_no_tensors(path, pairs, trailing):
    path.write_bytes(g.build(pairs=pairs, tensors=[], data=bytes(trailing)))
    file = GgufFile(path)
    assert list(file.keys()) == [] and len(file.metadata) == len(pairs)


def test_G27_random_metadata_and_tensors(path):
    rng = np.random.default_rng(11)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_custom_alignment(64)
    arrays = {}
    for index in range(40):
        shape = tuple(rng.integers(1, 6, rng.integers(1, 5)))
        arrays[f"t{index}"] = rng.normal(size=shape).astype(
            rng.choice(["f4", "f8", "f2", "i1", "i2", "i4", "i8"])
        )
        writer.add_tensor(f"t{index}", arrays[f"t{index}"])
        writer.add_array(f"k{index}", [int(x) for x in rng.integers(-99, 99, 5)])
    finish(writer)
    file = GgufFile(path)
    reader = gguf.GGUFReader(path)
    theirs = {k: f.contents() for k, f in reader.fields.items() if not k.startswith("GGUF.")}
    assert file.metadata == theirs
    for name, array in arrays.items():
        data = file.read(name)
        assert data.dtype == array.dtype and np.array_equal(data, array)


def test_reading_twice_gives_independent_arrays(path):
    path.write_bytes(g.build())
    file = GgufFile(path)
    first = file.read("a")
    first[:] = 9
    assert np.array_equal(file.read("a"), np.arange(6, dtype=np.float32).reshape(2, 3))


# Files that are not there, are not files, or change


def test_no_file(tmp_path):
    for name in ("absent.gguf", "nul\0.gguf", "."):
        with pytest.raises(WeightsError) as caught:
            GgufFile(tmp_path / name)
        assert caught.value.code == "RLX-W001" and "check the path" in caught.value.hint


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_fifo_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(WeightsError, match="not a regular file"):
        GgufFile(tmp_path / "pipe.gguf")


@pytest.mark.parametrize("change", ["truncate", "grow", "replace", "rewrite", "remove"])
def test_file_changes_before_a_read(path, change):
    content = g.build()
    path.write_bytes(content)
    file = GgufFile(path)
    if change == "remove":
        path.unlink()
    elif change == "replace":
        other = path.with_name("other")
        other.write_bytes(content)
        os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
        other.replace(path)
    elif change == "rewrite":
        later = path.stat().st_mtime_ns + 10**9
        os.utime(path, ns=(later, later))
    else:
        path.write_bytes(content[:-40] if change == "truncate" else content + b"x")
    with pytest.raises(WeightsError) as caught:
        file.read("b")
    expected = ("RLX-W001", "check the path") if change == "remove" else ("RLX-W047", "wait until")
    assert caught.value.code == expected[0] and expected[1] in caught.value.hint


# G28: damage to every byte


def damaged_file() -> bytes:
    """About 400 bytes with every kind of field: a scalar, strings, arrays, alignment, two tensors."""
    pairs = [
        g.encode("general.architecture", "llama"),
        g.encode("general.alignment", 32),
        g.encode("tokens", ["a", "b"]),
        g.encode("eps", 1e-5),
        g.encode("flags", [True, False]),
    ]
    tensors = [g.tensor("a", [3, 2]), g.tensor("b", [32], g.TYPE_Q4_0, 32)]
    return g.build(pairs=pairs, tensors=tensors, data=bytes(32 + 18))


def survive(path, content: bytes) -> bool:
    """True if the file opens and all of it reads; False for an RlxError. Anything else is a failure."""
    path.write_bytes(content)
    try:
        file = GgufFile(path)
        for name in list(file.keys()):
            file.read(name)
        _ = GgufModelFiles(path).config
    except RlxError as error:
        assert error.hint and error.where and "\n" not in error.message
        # The config of this file is never whole; what counts is that its tensors were read.
        return error.code.startswith("RLX-C")
    return True


def test_G28_every_truncation(path):
    content = damaged_file()
    assert 250 < len(content) < 500 and survive(path, content)
    for length in range(len(content)):
        assert not survive(path, content[:length]), length


def test_G28_every_byte_flipped(path):
    content = damaged_file()
    survive(path, content.replace(b"llama", b"other"))  # imports all recipes, which is not counted
    largest = 0
    tracemalloc.start()
    try:
        for at in range(len(content)):
            for changed in {0x00, 0xFF, content[at] ^ 0x01, content[at] ^ 0x80} - {content[at]}:
                tracemalloc.reset_peak()
                before = tracemalloc.get_traced_memory()[0]
                survive(path, content[:at] + bytes([changed]) + content[at + 1 :])
                largest = max(largest, tracemalloc.get_traced_memory()[1] - before)
    finally:
        tracemalloc.stop()
    assert largest < 1_000_000


def test_header_work_is_linear(path):
    calls = []
    for count in (200, 2_000):
        entries = [g.tensor(f"blk.{i}.w", [8], offset=32 * i) for i in range(count)]
        path.write_bytes(g.build(tensors=entries, data=bytes(32 * count)))
        calls.append(calls_of(lambda: list(GgufFile(path).keys())))
        assert len(list(GgufFile(path).keys())) == count
    assert calls[1] <= 12 * calls[0]
