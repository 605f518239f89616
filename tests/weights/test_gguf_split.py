"""G43: models split into parts, written by gguf-py and then spoiled."""

from __future__ import annotations

import gguf
import gguf_bytes as g
import numpy as np
import pytest

from rlxflow.errors import CorruptFile
from rlxflow.weights.gguf import GgufFile

ARRAYS = {f"t{i}": np.arange(i, i + 12, dtype=np.float32).reshape(3, 4) for i in range(5)}


def part_name(index: int, count: int = 3) -> str:
    return f"model-{index:05}-of-{count:05}.gguf"


@pytest.fixture
def parts(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama", split_max_tensors=2)
    writer.add_uint32("llama.block_count", 1)
    for name, array in ARRAYS.items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tmp_path


def split(number: int, count: int, total: int, name: str = "a", **more) -> bytes:
    """One part with one tensor; split.no and split.count as gguf-split writes them (u16, u16, i32)."""
    pairs = [
        g.encode("general.architecture", more.get("architecture", "llama")),
        g.pair("split.no", g.U16, number.to_bytes(2, "little")),
        g.pair("split.count", g.U16, count.to_bytes(2, "little")),
        g.pair("split.tensors.count", g.I32, total.to_bytes(4, "little")),
    ]
    return g.build(pairs=pairs, tensors=[g.tensor(name, [8])], data=bytes(32))


def test_all_parts_are_read(parts):
    file = GgufFile(parts / part_name(1))
    assert list(file.keys()) == list(ARRAYS)
    assert file.metadata["llama.block_count"] == 1
    for name, array in ARRAYS.items():
        assert np.array_equal(file.read(name), array)
        assert part_name(int(name[1]) // 2 + 1) in file.info(name).where


def test_a_single_part_may_be_called_so(tmp_path):
    file = GgufFile(g.write(tmp_path, split(0, 1, 1), part_name(1, 1)))
    assert list(file.keys()) == ["a"]


def refuse(path, hint: str, message: str) -> None:
    with pytest.raises(CorruptFile) as caught:
        GgufFile(path)
    assert caught.value.code == "RLX-W046"
    assert hint in caught.value.hint and message in caught.value.message


def test_G43_second_part_given(parts):
    refuse(parts / part_name(2), f"give the first part, {part_name(1)}", "part 2 of 3")


def test_G43_missing_part(parts):
    (parts / part_name(3)).unlink()
    refuse(parts / part_name(1), "fetch all parts", "part 3 of 3 is missing")


def test_G43_name_without_pattern(parts):
    other = (parts / part_name(1)).rename(parts / "renamed.gguf")
    refuse(other, "name the parts MODEL-00001-of-00003.gguf", "the name does not")


def test_G43_name_with_another_number(parts):
    other = (parts / part_name(1)).rename(parts / part_name(2, 4))
    refuse(other, "name the parts", "part 1 of 3")


def test_G43_name_of_a_part_without_metadata(tmp_path):
    path = g.write(tmp_path, g.build(), part_name(1))
    refuse(path, "fetch all parts", "the metadata does not")


SPOILT = {
    "G43-count-differs": ([split(0, 2, 2), split(1, 3, 2, "b")], "'split.count' differs"),
    "G43-tensor-count-differs": ([split(0, 2, 2), split(1, 2, 3, "b")], "'split.tensors.count' differs"),
    "G43-fewer-tensors-than-promised": ([split(0, 2, 3), split(1, 2, 3, "b")], "hold 2 tensors"),
    "G43-number-repeated": ([split(0, 2, 2), split(0, 2, 2, "b")], "that it is part 2"),
    "G43-other-model": ([split(0, 2, 2), split(1, 2, 2, "b", architecture="qwen2")], "parts of two models"),
    "G43-same-tensor-twice": ([split(0, 2, 2), split(1, 2, 2)], "in an earlier part"),
    "G43-second-without-split-keys": ([split(0, 2, 2), g.build()], "that it is part 2"),
    "G43-count-is-a-string": ([g.build(pairs=[g.encode("split.count", "2")]), b""], "split.count is 2"),
    "G43-count-is-huge": (
        [g.build(pairs=[g.pair("split.count", g.U64, g.u64(2**63))]), b""],
        "split.count is",
    ),
}


@pytest.mark.parametrize("name", SPOILT)
def test_spoilt_parts(name, tmp_path):
    contents, message = SPOILT[name]
    for number, content in enumerate(contents, 1):
        g.write(tmp_path, content, part_name(number, 2))
    refuse(tmp_path / part_name(1, 2), "fetch all parts", message)


def test_G43_damaged_second_part(parts):
    second = parts / part_name(2)
    second.write_bytes(second.read_bytes()[:-40])
    with pytest.raises(CorruptFile) as caught:
        GgufFile(parts / part_name(1))
    assert caught.value.code == "RLX-W042" and part_name(2) in caught.value.where
