"""Malformed GGUF files: one error each, with its code and its hint, and nothing else.

The ids G1… are the kinds of bad input: G1–G26 those of ggml's own test of its reader, the rest ours.
"""

from __future__ import annotations

import gguf_bytes as g
import pytest

from rlxflow.errors import CorruptFile, RlxError, UnsupportedFile, WeightsError
from rlxflow.weights.gguf import GgufFile

HUGE = 2**64 - 1
FETCH, CONVERT, TRUST = "fetch it again", "convert the model again", "source you trust"


def value(kind: int, payload: bytes) -> bytes:
    return g.build(pairs=[g.pair("key", kind, payload)])


def one(name="a", dims=(4,), kind=g.TYPE_F32, offset=0, data=bytes(64)) -> bytes:
    return g.build(tensors=[g.tensor(name, list(dims), kind, offset)], data=data)


def aligned(value_bytes: bytes, kind: int = g.U32, **more) -> bytes:
    return g.build(pairs=[g.pair("general.alignment", kind, value_bytes)], **more)


def two(first: bytes, second: bytes, data: bytes = bytes(256)) -> bytes:
    return g.build(tensors=[first, second], data=data)


# name: (file bytes, error class, code, part of the hint)
CASES = {
    "G1-bad-magic": (g.build(magic=b"GGUX"), CorruptFile, "W040", "starts with 'GGUF'"),
    "G1-magic-of-zeros": (g.build(magic=bytes(4)), CorruptFile, "W040", "starts with 'GGUF'"),
    "G1-ggjt": (b"tjgg" + bytes(60), CorruptFile, "W040", "older than GGUF"),
    "G1-git-lfs-pointer": (
        b"version https://git-lfs.github.com/spec/v1\n",
        CorruptFile,
        "W040",
        "git lfs pull",
    ),
    "G1-zip": (b"PK\x03\x04" + bytes(60), CorruptFile, "W040", "zip archive"),
    "G1-html": (b"<!DOCTYPE html><html>", CorruptFile, "W040", "web page"),
    "G2-version-0": (g.build(version=g.u32(0)), CorruptFile, "W040", FETCH),
    "G3-version-1": (g.build(version=g.u32(1)), UnsupportedFile, "W041", "current converter"),
    "G4-version-4": (g.build(version=g.u32(4)), UnsupportedFile, "W041", "newer rlxflow"),
    "G4-version-huge": (g.build(version=g.u32(2**32 - 1)), UnsupportedFile, "W041", "newer rlxflow"),
    "G5-tensor-count-huge": (g.build(tensor_count=HUGE), WeightsError, "W043", TRUST),
    "G6-key-count-huge": (g.build(pair_count=HUGE), WeightsError, "W043", TRUST),
    "G7-key-length-huge": (g.build(pairs=[g.u64(HUGE)]), WeightsError, "W043", TRUST),
    "G8-empty-key": (g.build(pairs=[g.encode("", "value")]), CorruptFile, "W044", "names are UTF-8"),
    "G9-value-type-13": (value(13, bytes(8)), CorruptFile, "W044", CONVERT),
    "G9-value-type-huge": (value(2**32 - 1, bytes(8)), CorruptFile, "W044", CONVERT),
    "G10-duplicate-key": (g.build(pairs=[g.encode("k", 1)] * 2), CorruptFile, "W044", CONVERT),
    "G11-alignment-13": (aligned(g.u32(13)), CorruptFile, "W044", CONVERT),
    "G12-alignment-u64": (aligned(g.u64(32), g.U64), CorruptFile, "W044", CONVERT),
    "G12-alignment-string": (aligned(g.string("32"), g.STRING), CorruptFile, "W044", CONVERT),
    "G13-tensor-name-64-bytes": (one("n" * 64), WeightsError, "W043", TRUST),
    "G13-tensor-name-length-huge": (g.build(tensors=[g.u64(HUGE) + bytes(80)]), WeightsError, "W043", TRUST),
    "G13-tensor-name-empty": (one(""), CorruptFile, "W045", "convert the model"),
    "G14-rank-5": (one(dims=[1] * 5), WeightsError, "W043", TRUST),
    "G14-rank-huge": (
        g.build(tensors=[g.string("a") + g.u32(2**32 - 1) + bytes(64)]),
        WeightsError,
        "W043",
        TRUST,
    ),
    "G15-dim-minus-1": (one(dims=[-1]), WeightsError, "W043", TRUST),
    "G16-element-count-overflow": (one(dims=[4 * (2**31 - 1)] * 2), WeightsError, "W043", TRUST),
    "G17-byte-count-overflow": (one(dims=[2**46, 2]), CorruptFile, "W042", FETCH),
    "G18-tensor-type-42": (one(kind=42), UnsupportedFile, "W041", "quantise the model again"),
    "G18-tensor-type-huge": (one(kind=2**32 - 1), UnsupportedFile, "W041", "quantise the model again"),
    "G19-offset-huge": (one(offset=HUGE), CorruptFile, "W045", "without holes"),
    "G20-duplicate-tensor": (
        two(g.tensor("a", [8]), g.tensor("a", [8], offset=32)),
        CorruptFile,
        "W045",
        CONVERT,
    ),
    "G21-unaligned-first-tensor": (one(offset=4), CorruptFile, "W045", "without holes"),
    "G22-packed-without-alignment": (
        two(g.tensor("a", [3]), g.tensor("b", [3], offset=12)),
        CorruptFile,
        "W045",
        "without holes",
    ),
    "G23-one-byte-short": (g.build()[:-1], CorruptFile, "W042", FETCH),
    "G23-no-data": (g.build(data=b""), CorruptFile, "W042", FETCH),
    "G24-data-starts-early": (aligned(g.u32(64), alignment=8), CorruptFile, "W042", FETCH),
    "G25-declared-64-laid-out-32": (aligned(g.u32(64), alignment=64), CorruptFile, "W045", "without holes"),
    "G26-sum-of-sizes-overflows": (
        two(g.tensor("a", [2**45]), g.tensor("b", [2**45], offset=2**47)),
        CorruptFile,
        "W042",
        FETCH,
    ),
    "G27-zero-dim-is-refused": (one(dims=[0, 4]), UnsupportedFile, "W041", CONVERT),
    "G28-empty-file": (b"", CorruptFile, "W042", FETCH),
    "G28-magic-only": (b"GGUF", CorruptFile, "W042", FETCH),
    "G29-tensor-count-1e9": (g.build(tensor_count=10**9), WeightsError, "W043", TRUST),
    "G29-tensor-count-1e6": (g.build(tensor_count=10**6), CorruptFile, "W042", FETCH),
    "G29-key-count-65536": (g.build(pair_count=65536), CorruptFile, "W042", FETCH),
    "G30-string-longer-than-file": (value(g.STRING, g.string("abc", 2**20)), CorruptFile, "W042", FETCH),
    "G30-string-over-limit": (value(g.STRING, g.string("abc", 2**40)), WeightsError, "W043", TRUST),
    "G31-u8-array-longer-than-file": (value(g.ARRAY, g.array(g.U8, 2**20, b"")), CorruptFile, "W042", FETCH),
    "G31-u8-array-over-limit": (value(g.ARRAY, g.array(g.U8, 2**40, b"")), WeightsError, "W043", TRUST),
    "G31-f64-array-length-wraps": (
        value(g.ARRAY, g.array(g.F64, 2**61 + 1, b"")),
        WeightsError,
        "W043",
        TRUST,
    ),
    "G31-string-array-longer-than-file": (
        value(g.ARRAY, g.array(g.STRING, 2**20, b"")),
        CorruptFile,
        "W042",
        FETCH,
    ),
    "G32-nested-array": (
        value(g.ARRAY, g.array(g.ARRAY, 1, g.array(g.U8, 1, b"1"))),
        UnsupportedFile,
        "W041",
        "convert it again",
    ),
    "G32-array-of-unknown-type": (value(g.ARRAY, g.array(13, 1, bytes(8))), CorruptFile, "W044", CONVERT),
    "G32-bool-2": (value(g.BOOL, b"\x02"), CorruptFile, "W044", CONVERT),
    "G32-array-with-bool-2": (value(g.ARRAY, g.array(g.BOOL, 2, b"\x01\x02")), CorruptFile, "W044", CONVERT),
    "G33-offset-wraps-into-header": (one(offset=-64), CorruptFile, "W045", "without holes"),
    "G34-overlap": (two(g.tensor("a", [16]), g.tensor("b", [8], offset=32)), CorruptFile, "W045", "overlap"),
    "G35-second-unaligned": (
        two(g.tensor("a", [8]), g.tensor("b", [8], offset=33)),
        CorruptFile,
        "W045",
        "holes",
    ),
    "G35-hole": (two(g.tensor("a", [8]), g.tensor("b", [8], offset=96)), CorruptFile, "W045", "holes"),
    "G35-out-of-order": (
        two(g.tensor("a", [8], offset=32), g.tensor("b", [8])),
        CorruptFile,
        "W045",
        "holes",
    ),
    "G36-alignment-0": (aligned(g.u32(0)), CorruptFile, "W044", CONVERT),
    "G36-alignment-2-MiB": (aligned(g.u32(2**21)), WeightsError, "W043", TRUST),
    "G36-alignment-2^31": (aligned(g.u32(2**31)), WeightsError, "W043", TRUST),
    "G36-alignment-twice": (
        g.build(pairs=[g.encode("general.alignment", 32)] * 2),
        CorruptFile,
        "W044",
        CONVERT,
    ),
    "G37-product-wraps": (one(dims=[2**62 + 1, 4]), WeightsError, "W043", TRUST),
    "G37-all-dims-zero": (one(dims=[0, 0, 0]), UnsupportedFile, "W041", CONVERT),
    "G38-row-not-multiple-of-32": (one(dims=[48], kind=g.TYPE_Q4_0), CorruptFile, "W045", CONVERT),
    "G38-row-not-multiple-of-256": (one(dims=[128, 2], kind=g.TYPE_Q4_K), CorruptFile, "W045", CONVERT),
    "G38-scalar-of-packed-type": (one(dims=[], kind=g.TYPE_Q4_0), CorruptFile, "W045", CONVERT),
    "G38-removed-type-4": (one(kind=4), UnsupportedFile, "W041", "quantise the model again"),
    "G38-removed-type-31": (one(kind=31), UnsupportedFile, "W041", "quantise the model again"),
    "G38-removed-type-38": (one(kind=38), UnsupportedFile, "W041", "quantise the model again"),
    "G39-big-endian-magic": (g.build(magic=b"FUGG"), UnsupportedFile, "W041", "little endian"),
    "G39-big-endian-version": (g.build(version=b"\0\0\0\x03"), UnsupportedFile, "W041", "little endian"),
    "G41-key-not-utf-8": (g.build(pairs=[g.pair(b"\xff\xfe", g.U8, b"1")]), CorruptFile, "W044", "UTF-8"),
    "G41-tensor-name-not-utf-8": (one(b"\xc3\x28"), CorruptFile, "W045", "UTF-8"),
}


@pytest.mark.parametrize("name", CASES)
def test_malformed(name, tmp_path):
    content, error, code, hint = CASES[name]
    path = g.write(tmp_path, content)
    with pytest.raises(RlxError) as caught:
        GgufFile(path)
    problem = caught.value
    assert type(problem) is error
    assert problem.code == f"RLX-{code}"
    assert hint in problem.hint
    assert problem.where.startswith(f"{path}:") and problem.where.rpartition(":")[2].isdigit()
    assert "\n" not in problem.message


UNREADABLE = {9: "q8_1", 16: "iq2_xxs", 23: "iq4_xs", 34: "tq1_0", 39: "mxfp4", 40: "nvfp4", 41: "q1_0"}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_G38_unreadable_types_are_listed_and_refused_when_read(kind, tmp_path):
    size = 256 * 4  # at least as large as any of these blocks
    file = GgufFile(g.write(tmp_path, one("x.weight", dims=[256, 2], kind=kind, data=bytes(size))))
    assert file.info("x.weight").dtype.name == UNREADABLE[kind]
    assert file.info("x.weight").shape == (2, 256)
    with pytest.raises(UnsupportedFile, match=f"'x.weight' is {UNREADABLE[kind]}") as caught:
        file.read("x.weight")
    assert caught.value.code == "RLX-W041" and "Q4_0" in caught.value.hint


def test_names_are_escaped_in_messages(tmp_path):
    path = g.write(tmp_path, one("\x1b[31mred\n", kind=4))
    with pytest.raises(UnsupportedFile) as caught:
        GgufFile(path)
    assert "\x1b" not in str(caught.value) and "\\x1b[31mred" in caught.value.message


def test_unknown_tensor_names_the_nearest(tmp_path):
    file = GgufFile(g.write(tmp_path, one("token_embd.weight")))
    with pytest.raises(RlxError) as caught:
        file.read("token_embed.weight")
    assert caught.value.code == "RLX-W002" and "token_embd.weight" in caught.value.hint
