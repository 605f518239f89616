"""Malformed safetensors files: one error each, with its code and its hint, and nothing else.

The ids S1… are kinds of bad input; several cases may share a kind.
"""

from __future__ import annotations

import json
import os
import socket
import tracemalloc
from pathlib import Path

import pytest
import safetensors_bytes as s

from rlxflow.errors import CorruptFile, RlxError, UnsupportedFile, WeightsError
from rlxflow.weights.safetensors import SafetensorsFile

INCOMPLETE, DAMAGED, NOT_ONE = "download is incomplete", "damaged", "no safetensors file"
NEVER = "never unpickles"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 90868376\n"
VALID = s.build({"a": s.entry(), "__metadata__": {"format": "np"}}, bytes(8))
HEADER = json.dumps({"a": s.entry()}).encode()
DEEP = b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"


def header(text: bytes | str) -> bytes:
    return s.raw(text if isinstance(text, bytes) else text.encode(), bytes(8))


def metadata(value: object) -> bytes:
    return s.build({"__metadata__": value, "a": s.entry()}, bytes(8))


# id: (file bytes, error class, code, part of the hint)
CASES = {
    "S1-empty": (b"", CorruptFile, "W011", INCOMPLETE),
    **{f"S1-{n}-bytes": (b"\x10" * n, CorruptFile, "W011", INCOMPLETE) for n in (1, 4, 7)},
    "S1-8-bytes": (s.raw(b"", length=2), CorruptFile, "W011", INCOMPLETE),
    "S1-8-zero-bytes": (bytes(8), CorruptFile, "W010", "never written"),
    "S1-length-0": (s.raw(b"{}", length=0), CorruptFile, "W013", DAMAGED),
    "S1-length-1": (s.raw(b"{}", length=1), CorruptFile, "W013", DAMAGED),
    "S2-length-past-end": (s.raw(HEADER, length=len(HEADER) + 99), CorruptFile, "W011", INCOMPLETE),
    "S2-length-2^63": (s.raw(HEADER, length=2**63), CorruptFile, "W012", NOT_ONE),
    "S2-length-2^64-1": (s.raw(HEADER, length=2**64 - 1), CorruptFile, "W012", NOT_ONE),
    "S2-length-plus-8-wraps": (s.raw(HEADER, length=2**64 - 8), CorruptFile, "W012", NOT_ONE),
    "S3-over-100-MB": (s.raw(HEADER, length=100_000_001), CorruptFile, "W012", NOT_ONE),
    "S4-not-utf-8": (header(b'{"\xff\xfe":1}'), CorruptFile, "W013", DAMAGED),
    "S4-byte-order-mark": (header(b"\xef\xbb\xbf" + HEADER), CorruptFile, "W013", "UTF-8 without it"),
    "S4-overlong": (header(b'{"\xc0\xaf":1}'), CorruptFile, "W013", DAMAGED),
    "S4-encoded-surrogate": (header(b'{"\xed\xa0\x80":1}'), CorruptFile, "W013", DAMAGED),
    "S4-lone-surrogate": (header(HEADER.replace(b"a", b"\\ud800", 1)), CorruptFile, "W013", DAMAGED),
    "S5-not-json": (header("{hello}"), CorruptFile, "W013", DAMAGED),
    "S5-array": (header("[1, 2]"), CorruptFile, "W013", DAMAGED),
    "S5-number": (header("12345678"), CorruptFile, "W013", DAMAGED),
    "S5-null": (header("null    "), CorruptFile, "W013", DAMAGED),
    "S5-trailing-garbage": (header(HEADER + b"x"), CorruptFile, "W013", DAMAGED),
    "S5-two-objects": (header(HEADER + HEADER), CorruptFile, "W013", DAMAGED),
    "S5-trailing-NUL": (header(HEADER + b"\0"), CorruptFile, "W013", DAMAGED),
    "S5-leading-space": (header(b" " + HEADER), CorruptFile, "W013", DAMAGED),
    "S5-NaN": (header('{"a": NaN}'), CorruptFile, "W013", DAMAGED),
    "S5-1e400": (header('{"a": 1e400}'), CorruptFile, "W013", DAMAGED),
    "S5-control-character": (header(b'{"a\nb": 1}'), CorruptFile, "W013", DAMAGED),
    "S6-duplicate-names": (
        header(HEADER[:-1] + b"," + HEADER[1:]),
        CorruptFile,
        "W013",
        DAMAGED,
    ),
    "S6-duplicate-metadata": (header('{"__metadata__": {"k": "1", "k": "2"}}'), CorruptFile, "W013", DAMAGED),
    "S6-metadata-twice": (header('{"__metadata__":{},"__metadata__":{}}'), CorruptFile, "W013", DAMAGED),
    "S6-metadata-list": (metadata(["x"]), CorruptFile, "W014", DAMAGED),
    "S6-metadata-null": (metadata(None), CorruptFile, "W014", DAMAGED),
    "S6-metadata-number": (metadata({"epoch": 3}), CorruptFile, "W014", "strings only"),
    "S6-metadata-object": (metadata({"a": {"b": "c"}}), CorruptFile, "W014", "strings only"),
    "S8-no-dtype": (s.one(dtype=...), CorruptFile, "W014", DAMAGED),
    "S8-no-shape": (s.one(shape=...), CorruptFile, "W014", DAMAGED),
    "S8-no-offsets": (s.one(data_offsets=...), CorruptFile, "W014", DAMAGED),
    "S8-entry-list": (s.build({"a": ["F32", [2], [0, 8]]}, bytes(8)), CorruptFile, "W014", DAMAGED),
    "S8-entry-string": (s.build({"a": "F32"}, bytes(8)), CorruptFile, "W014", DAMAGED),
    "S8-entry-null": (s.build({"a": None}, bytes(8)), CorruptFile, "W014", DAMAGED),
    "S8-dtype-number": (s.one(dtype=32), CorruptFile, "W014", DAMAGED),
    "S8-dtype-list": (s.one(dtype=["F32"]), CorruptFile, "W014", DAMAGED),
    "S8-shape-number": (s.one(shape=2), CorruptFile, "W014", DAMAGED),
    "S8-shape-string": (s.one(shape="2"), CorruptFile, "W014", DAMAGED),
    "S8-shape-float": (s.one(shape=[2.0]), CorruptFile, "W014", DAMAGED),
    "S8-shape-negative": (s.one(shape=[-2]), CorruptFile, "W014", DAMAGED),
    "S8-shape-bool": (s.one(shape=[True, 2]), CorruptFile, "W014", DAMAGED),
    "S8-shape-null": (s.one(shape=[None]), CorruptFile, "W014", DAMAGED),
    "S8-offsets-1": (s.one(data_offsets=[0]), CorruptFile, "W014", DAMAGED),
    "S8-offsets-3": (s.one(data_offsets=[0, 4, 8]), CorruptFile, "W014", DAMAGED),
    "S8-offsets-float": (s.one(data_offsets=[0, 8.0]), CorruptFile, "W014", DAMAGED),
    "S8-offsets-negative": (s.one(data_offsets=[-8, 0]), CorruptFile, "W014", DAMAGED),
    "S8-offsets-string": (s.one(data_offsets=["0", "8"]), CorruptFile, "W014", DAMAGED),
    "S8-5000-digits": (header('{"a": ' + "9" * 5000 + "}"), CorruptFile, "W013", DAMAGED),
    "S9-unknown-dtype": (s.one(dtype="F23"), CorruptFile, "W014", "did you mean"),
    "S9-dtype-of-the-future": (s.one(dtype="POSIT"), CorruptFile, "W014", "update rlxflow"),
    "S9-lower-case": (s.one(dtype="f32"), CorruptFile, "W014", "F32"),
    "S10-begin-after-end": (s.one(data_offsets=[8, 0]), CorruptFile, "W015", DAMAGED),
    "S10-hole": (s.two((0, 8), (16, 24), 24), CorruptFile, "W015", DAMAGED),
    "S10-overlap": (s.two((0, 8), (4, 12)), CorruptFile, "W015", DAMAGED),
    "S10-same-bytes": (s.two((0, 8), (0, 8), 8), CorruptFile, "W015", DAMAGED),
    "S10-not-from-0": (s.two((8, 16), (16, 24), 24), CorruptFile, "W015", DAMAGED),
    "S10-past-end": (s.two((0, 8), (8, 16), 8), CorruptFile, "W017", INCOMPLETE),
    "S10-far-past-end": (
        s.one(data_offsets=[0, 2**44], shape=[2**42]),
        CorruptFile,
        "W017",
        INCOMPLETE,
    ),
    "S10-size-too-large": (s.one(shape=[3]), CorruptFile, "W016", DAMAGED),
    "S10-size-too-small": (s.one(shape=[1]), CorruptFile, "W016", DAMAGED),
    "S10-half-byte": (s.one(b"x", dtype="F4", shape=[3], data_offsets=[0, 1]), CorruptFile, "W016", DAMAGED),
    "S10-product-overflow": (s.one(shape=[2**40, 2**40]), UnsupportedFile, "W019", "2**48"),
    "S10-product-wraps-to-2": (s.one(shape=[2**63 + 1, 2]), UnsupportedFile, "W019", "2**48"),
    "S10-huge-beside-0": (s.one(shape=[0, 2**60], data_offsets=[0, 0]), UnsupportedFile, "W019", "2**48"),
    "S10-rank-9": (s.one(shape=[1] * 8 + [2]), UnsupportedFile, "W019", "8 dimensions"),
    "S10-rank-65": (s.one(shape=[1] * 64 + [2]), UnsupportedFile, "W019", "8 dimensions"),
    "S10-rank-100000": (s.one(shape=[1] * 100_000), UnsupportedFile, "W019", "8 dimensions"),
    "S11-cut-in-header": (VALID[:40], CorruptFile, "W011", INCOMPLETE),
    "S11-cut-by-1-byte": (VALID[:-1], CorruptFile, "W017", INCOMPLETE),
    "S11-cut-by-half": (VALID[:-4], CorruptFile, "W017", INCOMPLETE),
    "S11-cut-to-no-data": (VALID[:-8], CorruptFile, "W017", INCOMPLETE),
    "S11-1-byte-more": (VALID + b"x", CorruptFile, "W017", DAMAGED),
    "S11-4-KiB-of-zeros": (VALID + bytes(4096), CorruptFile, "W017", "cut short and padded"),
    "S11-1-MB-of-zeros": (VALID + bytes(10**6), CorruptFile, "W017", "cut short and padded"),
    "S13-100000-deep": (header(DEEP), CorruptFile, "W013", DAMAGED),
    "S13-65-deep": (header(b'{"a":' + b"[" * 64 + b"]" * 64 + b"}"), CorruptFile, "W013", DAMAGED),
    "S14-empty-name": (s.one(name=""), CorruptFile, "W018", DAMAGED),
    "S14-NUL": (s.one(name="a\0b"), CorruptFile, "W018", "rename"),
    "S14-newline": (s.one(name="a\nRLX-W000"), CorruptFile, "W018", "rename"),
    "S14-terminal-escape": (s.one(name="\x1b[2J"), CorruptFile, "W018", "rename"),
    "S14-10-kB-name": (s.one(name="a" * 10_000), CorruptFile, "W018", "4,096 characters"),
    "S15-lfs-pointer": (LFS, CorruptFile, "W010", "git lfs pull"),
    "S15-html": (b"<!DOCTYPE html><html>", CorruptFile, "W010", "web page"),
    "S15-html-spaced": (b"\n  <html lang=en>", CorruptFile, "W010", "web page"),
    "S15-xml-answer": (b"<?xml version='1.0'?><Error/>", CorruptFile, "W010", "web page"),
    "S15-json-answer": (b'{"error":"Not authorised"}', CorruptFile, "W010", "holds the tensors"),
    "S15-hub-answer": (b"Entry not found", CorruptFile, "W010", "with access"),
    "S15-zip": (b"PK\x03\x04" + bytes(60), UnsupportedFile, "W010", NEVER),
    **{
        f"S15-pickle-{n}": (bytes([0x80, n]) + b"}q\0." + bytes(9), UnsupportedFile, "W010", NEVER)
        for n in (2, 3, 4, 5)
    },
    "S15-gguf": (b"GGUF\3\0\0\0" + bytes(16), UnsupportedFile, "W010", "*.gguf"),
    "S15-gzip": (b"\x1f\x8b\x08\0\0\0\0\0" + bytes(16), UnsupportedFile, "W010", "gunzip"),
    "S15-zstd": (b"\x28\xb5\x2f\xfd" + bytes(16), UnsupportedFile, "W010", "unzstd"),
    "S15-hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(16), UnsupportedFile, "W010", "save it as safetensors"),
    "S15-numpy": (b"\x93NUMPY\1\0" + bytes(16), UnsupportedFile, "W010", "MapWeights"),
    "S15-zeros": (bytes(4096), CorruptFile, "W010", "never written"),
    "S16-big-endian": (
        len(HEADER).to_bytes(8, "big") + HEADER + bytes(8),
        CorruptFile,
        "W011",
        "little-endian",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_malformed(case: str, tmp_path: Path) -> None:
    data, kind, code, hint = CASES[case]
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    with pytest.raises(kind) as caught:
        SafetensorsFile(path)
    assert type(caught.value) is kind
    assert caught.value.code == f"RLX-{code}"
    assert hint in caught.value.hint
    assert str(path)[:60] in caught.value.where
    assert len(str(caught.value)) < 1200
    assert str(caught.value).replace("\n", "").isprintable()


def test_lfs_pointer_says_what_size_was_expected(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(LFS)
    with pytest.raises(CorruptFile, match=f"expected 90,868,376 bytes, found {len(LFS)}"):
        SafetensorsFile(path)


def test_s3_soft_cap_can_be_raised(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(s.raw(HEADER + b" " * 5000, bytes(8)))
    with pytest.raises(CorruptFile) as caught:
        SafetensorsFile(path, max_header_bytes=1000)
    assert caught.value.code == "RLX-W012"
    assert f"max_header_bytes={len(HEADER) + 5000}" in caught.value.hint
    assert list(SafetensorsFile(path, max_header_bytes=6000).keys()) == ["a"]


def test_s3_the_formats_own_cap_stays(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        file.write((100_000_001).to_bytes(8, "little") + b"{")
        file.truncate(101_000_000)  # sparse
    with pytest.raises(CorruptFile) as caught:
        SafetensorsFile(path, max_header_bytes=1 << 40)
    assert caught.value.code == "RLX-W012" and "format's" in caught.value.message


def test_s7_unknown_fields_are_noted(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(s.one(stride=[1]))
    assert "fields that the format does not name" in SafetensorsFile(path).notes[0]


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F4", "F6_E2M3", "C64"])
def test_s9_unsupported_dtypes_are_listed_not_read(dtype: str, tmp_path: Path) -> None:
    bits = {"F4": 4, "F6": 6, "F8": 8, "C6": 64}[dtype[:2]]
    path = tmp_path / "model.safetensors"
    path.write_bytes(s.one(bytes(bits), dtype=dtype, shape=[2, 4], data_offsets=[0, bits]))
    file = SafetensorsFile(path)
    assert (file.info("a").shape, file.info("a").nbytes) == ((2, 4), bits)
    with pytest.raises(UnsupportedFile) as caught:
        file.read("a")
    assert caught.value.code == "RLX-W020"
    assert "unquantised checkpoint" in caught.value.hint


def test_s12_a_header_of_100000_tensors(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    names = (f"model.layers.{i}.self_attn.q_proj.weight" for i in range(100_000))
    path.write_bytes(s.build({n: s.entry(8 * i, 8 * i + 8) for i, n in enumerate(names)}, bytes(800_000)))
    assert len(list(SafetensorsFile(path).keys())) == 100_000


def test_s12_a_header_over_the_cap_is_not_parsed(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        file.write((90_000_000).to_bytes(8, "little") + b"{")
        file.truncate(95_000_000)  # sparse
    tracemalloc.start()
    with pytest.raises(CorruptFile) as caught:
        SafetensorsFile(path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
    assert caught.value.code == "RLX-W012"


def test_s14_odd_names_are_keys_and_nothing_else(tmp_path: Path) -> None:
    names = ["../../x", "/etc/passwd", "caf\u00e9", "cafe\u0301", "a b", "__metadata", "名前"]
    path = tmp_path / "model.safetensors"
    path.write_bytes(s.build({n: s.entry(8 * i, 8 * i + 8) for i, n in enumerate(names)}, bytes(56)))
    assert list(SafetensorsFile(path).keys()) == names


def test_s15_a_sparse_file_of_1_TB_of_zeros_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(CorruptFile) as caught:
        SafetensorsFile(path)
    assert caught.value.code == "RLX-W010"


@pytest.mark.parametrize("change", ["shorter", "longer", "rewritten", "replaced", "deleted"])
def test_s18_a_file_that_changes_after_its_header_was_read(change: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(VALID)
    os.utime(path, (1, 1))
    file = SafetensorsFile(path)
    if change == "deleted":
        path.unlink()
    elif change == "replaced":
        (tmp_path / "new").write_bytes(VALID)
        os.utime(tmp_path / "new", (1, 1))
        (tmp_path / "new").rename(path)
    else:
        path.write_bytes({"shorter": VALID[:-1], "longer": VALID + b"x", "rewritten": VALID}[change])
    with pytest.raises(WeightsError) as caught:
        file.read("a")
    assert caught.value.code == ("RLX-W001" if change == "deleted" else "RLX-W047")


@pytest.mark.parametrize("kind", ["absent", "directory", "fifo", "socket", "device", "loop", "dangling"])
def test_s19_not_a_regular_file(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with socket.socket(socket.AF_UNIX) as listener:
        if kind == "directory":
            path.mkdir()
        elif kind == "fifo":
            os.mkfifo(path)
        elif kind == "socket":
            listener.bind(str(path))
        elif kind == "device":
            path = Path("/dev/zero")
        elif kind == "loop":
            path.symlink_to(path)
        elif kind == "dangling":
            path.symlink_to(tmp_path / "nowhere")
        with pytest.raises(WeightsError) as caught:
            SafetensorsFile(path)
    assert caught.value.code == "RLX-W001"
    assert "check the path" in caught.value.hint


def test_s19_permission_denied(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(VALID)
    path.chmod(0)
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65534)  # root may read everything
        with pytest.raises(WeightsError) as caught:
            SafetensorsFile(path)
    finally:
        os.seteuid(user)
    assert caught.value.code == "RLX-W001"
    assert "permissions" in caught.value.hint


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000])
def test_s19_paths_that_no_file_can_have(name: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        SafetensorsFile(tmp_path / name)
    assert caught.value.code == "RLX-W001"


def read_all(path: Path) -> dict[str, bytes]:
    file = SafetensorsFile(path)
    return {key: file.read(key).tobytes() for key in file.keys()}  # noqa: SIM118


def small_file() -> bytes:
    tensors = {
        "encoder.weight": s.entry(0, 24, "F32", [2, 3]),
        "encoder.bias": s.entry(24, 28, "BF16", [2]),
        "step": s.entry(28, 36, "I64", []),
    }
    return s.build({"__metadata__": {"format": "pt"}, **tensors}, bytes(range(36)))


def test_every_prefix_of_a_file_is_refused(tmp_path: Path) -> None:
    path, data = tmp_path / "model.safetensors", small_file()
    for size in range(len(data)):
        path.write_bytes(data[:size])
        with pytest.raises(WeightsError) as caught:
            SafetensorsFile(path)
        assert caught.value.hint
    path.write_bytes(data)
    assert len(read_all(path)) == 3


def test_every_damaged_byte_ends_in_a_result_or_an_error(tmp_path: Path) -> None:
    """Damage to a name, the metadata or the data can go unnoticed; nothing else may happen."""
    path, data = tmp_path / "model.safetensors", small_file()
    refused, tried = 0, 0
    tracemalloc.start()
    for at, byte in enumerate(data):
        for new in {0x00, 0xFF, byte ^ 0x01, byte ^ 0x80} - {byte}:
            path.write_bytes(data[:at] + bytes([new]) + data[at + 1 :])
            tried += 1
            try:
                found = read_all(path)
                assert sum(map(len, found.values())) == 36
            except RlxError as error:
                refused += 1
                assert error.hint and error.where
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert tried > 900 and refused > tried / 2
    assert peak < 1 << 20
