"""Reading and writing valid safetensors files, against the safetensors library."""

from __future__ import annotations

import json
import os
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import safetensors_bytes as s
from hypothesis import HealthCheck, given, settings, strategies as st
from hypothesis.extra import numpy as arrays

from rlxflow.dtypes import bf16, f32, to_numpy
from rlxflow.errors import MissingTensor, RlxError, UnsupportedFile, WeightsError
from rlxflow.weights.safetensors import SafetensorsFile
from rlxflow.weights.safetensors_writer import write_safetensors
from rlxflow.weights.source import MapWeights, WeightSource

PLAIN = ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?"]
TYPES = [*map(np.dtype, PLAIN), np.dtype(ml_dtypes.bfloat16)]


def sample(dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """Random bits, so NaNs, infinities and denormals too; booleans are 0 or 1."""
    rng = np.random.default_rng(len(shape))
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    size = int(np.prod(shape)) * dtype.itemsize
    return np.frombuffer(rng.bytes(size), dtype).reshape(shape)


def assert_same_bits(found: np.ndarray, wanted: np.ndarray) -> None:
    assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype)
    assert found.tobytes() == wanted.tobytes()


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_every_dtype_reads_bit_for_bit(dtype: np.dtype, tmp_path: Path) -> None:
    shapes = [(), (1,), (7,), (3, 5), (2, 3, 4), (0,), (4, 0, 2), (1,) * 8]
    wanted = {f"t{i}": sample(dtype, shape) for i, shape in enumerate(shapes)}
    path = tmp_path / "a.safetensors"
    safetensors.numpy.save_file(wanted, path, {"made": "by the library"})
    file = SafetensorsFile(path)
    assert isinstance(file, WeightSource)
    assert set(file.keys()) == set(wanted) and file.metadata == {"made": "by the library"}
    for key, array in wanted.items():
        found = file.read(key)
        assert_same_bits(found, array)
        assert found.flags.c_contiguous and found.flags.aligned
        info = file.info(key)
        assert (info.shape, info.nbytes, to_numpy(info.dtype)) == (array.shape, array.nbytes, dtype)


def test_reads_as_the_library_reads(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    safetensors.numpy.save_file({f"k{i}": sample(t, (2, i + 1)) for i, t in enumerate(TYPES)}, path)
    file = SafetensorsFile(path)
    for key, array in safetensors.numpy.load_file(path).items():
        assert_same_bits(file.read(key), array)


def test_reading_consumes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    safetensors.numpy.save_file({"a": sample(np.dtype("f4"), (3,))}, path)
    file = SafetensorsFile(path)
    first, second = file.read("a"), file.read("a")
    assert_same_bits(first, second)
    assert not np.shares_memory(first, second)


def test_unknown_key(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(s.one(name="encoder.weight"))
    for ask in (SafetensorsFile(path).info, SafetensorsFile(path).read):
        with pytest.raises(MissingTensor) as caught:
            ask("encoder.wieght")
        assert caught.value.hint == "did you mean 'encoder.weight'?"


def test_s10_scalars_empty_tensors_and_any_order(tmp_path: Path) -> None:
    """Legal by the format: tensors may lie in any order, and empty ones share their offset."""
    path = tmp_path / "a.safetensors"
    tensors = {
        "last": s.entry(12, 20),
        "empty": s.entry(12, 12, shape=[0, 3]),
        "scalar": s.entry(8, 12, shape=[]),
        "first": s.entry(0, 8),
    }
    path.write_bytes(s.build(tensors, np.arange(5, dtype="<f4").tobytes()))
    file = SafetensorsFile(path)
    assert list(file.keys()) == list(tensors)
    assert [file.read(k).tolist() for k in tensors] == [[3, 4], [], 2, [0, 1]]
    assert file.read("empty").shape == (0, 3)
    offset = int(file.info("last").where.removeprefix(f"{path}:"))
    assert path.read_bytes()[offset : offset + 8] == np.array([3, 4], "<f4").tobytes()


def test_s5_padding_after_the_header_is_legal(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(s.raw(json.dumps({"a": s.entry()}).encode() + b" \n\t  ", bytes(8)))
    assert list(SafetensorsFile(path).keys()) == ["a"]


def test_a_file_without_tensors_is_legal(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(s.raw(b"{}"))
    assert list(SafetensorsFile(path).keys()) == []


def test_s17_values_are_not_judged(tmp_path: Path) -> None:
    values = np.array([np.nan, np.inf, -np.inf, 1e-45, -0.0], np.float32)
    path = tmp_path / "a.safetensors"
    path.write_bytes(s.one(values.tobytes(), shape=[5], data_offsets=[0, 20]))
    assert_same_bits(SafetensorsFile(path).read("a"), values)


def test_w14_short_memory_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(s.one())
    file = SafetensorsFile(path)

    def no_memory(*args: object) -> None:
        raise MemoryError

    monkeypatch.setattr(np, "empty", no_memory)
    with pytest.raises(WeightsError) as caught:
        file.read("a")
    assert caught.value.code == "RLX-W036" and "8 bytes" in caught.value.message


def test_many_files_keep_no_descriptor_open(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(s.one())
    before = len(list(Path("/proc/self/fd").iterdir()))
    files = [SafetensorsFile(path) for _ in range(50)]
    for file in files:
        file.read("a")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


# -- writing


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_the_library_reads_what_we_write(dtype: np.dtype, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    wanted = {f"t{i}": sample(dtype, shape) for i, shape in enumerate([(), (3, 5), (0, 2), (7,)])}
    write_safetensors(path, wanted.items(), {"format": "np"})
    for key, array in safetensors.numpy.load_file(path).items():
        assert_same_bits(array, wanted[key])
    for key, array in wanted.items():
        assert_same_bits(SafetensorsFile(path).read(key), array)
    assert int.from_bytes(path.read_bytes()[:8], "little") % 8 == 0


def test_big_endian_arrays_are_written_little_endian(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_safetensors(path, [("a", np.arange(3, dtype=">i4"))])
    assert safetensors.numpy.load_file(path)["a"].tolist() == [0, 1, 2]


BAD = {
    "transposed": [("a", np.zeros((2, 3)).T)],
    "strided": [("a", np.zeros(6)[::2])],
    "reversed": [("a", np.zeros(6)[::-1])],
    "broadcast": [("a", np.broadcast_to(np.float32(1), (3, 3)))],
    "fortran": [("a", np.zeros((2, 3), order="F"))],
    "complex": [("a", np.zeros(2, complex))],
    "object": [("a", np.array([None]))],
    "twice": [("a", np.zeros(1)), ("a", np.zeros(1))],
    "reserved": [("__metadata__", np.zeros(1))],
}


@pytest.mark.parametrize("case", BAD)
def test_arrays_that_cannot_be_written_leave_the_old_file(case: str, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"old")
    with pytest.raises(WeightsError) as caught:
        write_safetensors(path, BAD[case])
    assert caught.value.code == "RLX-W038"
    assert "C-contiguous" in caught.value.hint
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_w7_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"old")
    with pytest.raises(WeightsError, match="No space left"):
        write_safetensors(path, [("a", np.zeros(3))])
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


names = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=12)
tensors = st.sampled_from(TYPES[:-1]).flatmap(
    lambda t: arrays.arrays(t, arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wanted=st.dictionaries(names, tensors, max_size=5))
def test_what_is_written_is_read(wanted: dict[str, np.ndarray], tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    wanted = {key: np.ascontiguousarray(a).reshape(a.shape) for key, a in wanted.items()}
    write_safetensors(path, wanted.items())
    file = SafetensorsFile(path)
    assert set(file.keys()) == set(wanted)
    for key, array in wanted.items():
        assert_same_bits(file.read(key), array)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_we_are_at_least_as_strict_as_the_library(data: st.DataObject, tmp_path: Path) -> None:
    """What the library refuses, we refuse; what both accept, both read alike."""
    good = s.build({"a": s.entry(), "b": s.entry(8, 12, "I32", [1])}, bytes(range(12)))
    changed = bytearray(good)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(good) - 1))
        changed[at] = data.draw(st.sampled_from([*b'0189 "{}[]:,FI', 0, 255, good[at] ^ 1]))
    path = tmp_path / "a.safetensors"
    path.write_bytes(changed)
    try:
        file = SafetensorsFile(path)
    except RlxError:
        return
    for key, array in safetensors.numpy.load(bytes(changed)).items():
        assert_same_bits(file.read(key), array)


# -- MapWeights


def test_map_weights() -> None:
    arrays_ = {
        "w": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "b": np.arange(3, dtype=">i4"),
        "h": np.zeros(2, ml_dtypes.bfloat16),
        "s": np.float32(4),
    }
    source = MapWeights(arrays_)
    assert isinstance(source, WeightSource)
    assert list(source.keys()) == ["w", "b", "h", "s"]
    assert source.read("w").flags.c_contiguous and source.read("w").tolist() == arrays_["w"].tolist()
    assert source.read("b").tolist() == [0, 1, 2] and source.read("b").dtype.isnative
    assert [source.info(k).shape for k in source.keys()] == [(3, 2), (3,), (2,), ()]  # noqa: SIM118
    assert (source.info("w").dtype, source.info("h").dtype) == (f32, bf16)
    with pytest.raises(MissingTensor):
        source.read("x")


@pytest.mark.parametrize("value", [np.array(["x"]), np.array([None]), np.zeros(2, complex)], ids=str)
def test_map_weights_refuses_other_types(value: np.ndarray) -> None:
    with pytest.raises(UnsupportedFile) as caught:
        MapWeights({"a": value})
    assert (caught.value.code, caught.value.hint) == ("RLX-W003", "give float, integer or bool arrays")
