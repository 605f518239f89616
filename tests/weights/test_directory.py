"""Model directories and shard indexes, good and bad; the ids I1… are kinds of bad input."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import safetensors_bytes as s
from directory_samples import INDEX, ONE, TWO, contents, hub_cache, save, sharded, write_index

from rlxflow.dtypes import f16, f32
from rlxflow.errors import MissingTensor, WeightsError
from rlxflow.weights.directory import open_directory, open_weights
from rlxflow.weights.gguf import GgufFile
from rlxflow.weights.shards import ShardedWeights

# -- good ones


def test_one_file(tmp_path: Path) -> None:
    save(tmp_path / "model.safetensors", "a", "bb")
    for path in (tmp_path, str(tmp_path), tmp_path / "model.safetensors"):
        assert contents(open_weights(path)) == {"a": 1, "bb": 2}


@pytest.mark.parametrize("path", ["", None, 5, ["a"], {"w": 1}])
def test_what_is_no_path(path: Any) -> None:
    with pytest.raises(WeightsError) as caught:
        open_weights(path)
    assert caught.value.code == "RLX-W001" and "is no path" in caught.value.message and caught.value.hint


def test_a_sharded_model(tmp_path: Path) -> None:
    sharded(tmp_path, metadata={"total_size": 72})
    for path in (tmp_path, tmp_path / INDEX):
        source = open_weights(path)
        assert isinstance(source, ShardedWeights)
        assert contents(source) == {"a": 1, "bb": 2, "ccc": 3}
        assert source.notes == ()
        assert ONE in source.info("bb").where
    with pytest.raises(MissingTensor) as caught:
        source.read("cc")
    assert caught.value.hint == "did you mean 'ccc'?"


def test_i1_index_with_one_file(tmp_path: Path) -> None:
    save(tmp_path / "model.safetensors", "a")
    write_index(tmp_path, {"a": "model.safetensors"})
    assert contents(open_directory(tmp_path)) == {"a": 1}


def test_i1_a_complete_family_needs_no_index(tmp_path: Path) -> None:
    (sharded(tmp_path) / INDEX).unlink()
    assert contents(open_directory(tmp_path)) == {"a": 1, "bb": 2, "ccc": 3}


def test_i1_one_file_of_another_name(tmp_path: Path) -> None:
    save(tmp_path / "weights.safetensors", "a")
    save(tmp_path / "._weights.safetensors", "hidden")
    assert contents(open_directory(tmp_path)) == {"a": 1}


def test_i1_an_index_of_another_name(tmp_path: Path) -> None:
    sharded(tmp_path)
    (tmp_path / INDEX).rename(tmp_path / "model.fp16.safetensors.index.json")
    assert len(contents(open_directory(tmp_path))) == 3


def test_i2_byte_order_mark_in_the_index(tmp_path: Path) -> None:
    index = sharded(tmp_path) / INDEX
    index.write_bytes(b"\xef\xbb\xbf" + index.read_bytes())
    assert len(contents(open_directory(tmp_path))) == 3


def test_i3_unlisted_file_is_ignored_and_noted(tmp_path: Path) -> None:
    save(sharded(tmp_path) / "model-00003-of-00003.safetensors", "stray")
    source = open_directory(tmp_path)
    assert "stray" not in contents(source)
    assert source.notes == ("1 files are not in the index and are ignored: model-00003-of-00003.safetensors",)


def test_i3_extra_tensors_are_left_out_and_noted(tmp_path: Path) -> None:
    save(sharded(tmp_path) / TWO, "ccc", "dddd", "eeeee")
    source = open_directory(tmp_path)
    assert set(contents(source)) == {"a", "bb", "ccc"}
    assert source.notes == ("2 tensors in the shards are not in the index; left out",)


def test_i3_dtypes_may_differ_between_shards(tmp_path: Path) -> None:
    save(sharded(tmp_path) / TWO, "ccc", dtype="f2")
    source = open_directory(tmp_path)
    assert (source.info("a").dtype, source.info("ccc").dtype) == (f32, f16)


@pytest.mark.parametrize("total", [71, "72", None, -1, 1e30])
def test_i6_wrong_total_size_is_noted(total: Any, tmp_path: Path) -> None:
    notes = open_directory(sharded(tmp_path, metadata={"total_size": total})).notes
    assert len(notes) == (total is not None)
    assert all("total_size" in note and "72 bytes" in note for note in notes)


def test_i7_the_index_wins_over_a_single_file(tmp_path: Path) -> None:
    save(sharded(tmp_path) / "model.safetensors", "z")
    source = open_directory(tmp_path)
    assert set(contents(source)) == {"a", "bb", "ccc"}
    assert "model.safetensors" in source.notes[0]


def test_i7_a_single_file_wins_over_others(tmp_path: Path) -> None:
    save(tmp_path / "model.safetensors", "a")
    save(tmp_path / "consolidated.safetensors", "b")
    source = open_directory(tmp_path)
    assert contents(source) == {"a": 1}
    assert "consolidated.safetensors" in source.notes[0]


def test_i9_4096_shards_need_no_descriptors(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    data = s.one(name="KEY")
    names = [f"model-{i:05}-of-04096.safetensors" for i in range(1, 4097)]
    for i, name in enumerate(names):
        (tmp_path / name).write_bytes(data.replace(b"KEY", f"{i:03x}".encode()))
    write_index(tmp_path, {f"{i:03x}": name for i, name in enumerate(names)})
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    try:
        source = open_directory(tmp_path)
        assert source.read("fff").shape == (2,)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_gguf_is_told_by_its_content(tmp_path: Path) -> None:
    import gguf_bytes

    path = tmp_path / "model.safetensors"
    path.write_bytes(gguf_bytes.build(tensors=[gguf_bytes.tensor("a", [4], 0, 0)], data=bytes(64)))
    assert isinstance(open_weights(path), GgufFile)


@pytest.mark.parametrize("hops", [1, 2])
def test_i4_snapshots_of_the_hub_cache(hops: int, tmp_path: Path) -> None:
    snapshot = hub_cache(tmp_path / "hub", hops)
    source = open_directory(snapshot)
    assert contents(source) == {"a": 1}
    assert str(snapshot) in source.info("a").where  # messages name the link, not the blob


@pytest.mark.parametrize("hops", [1, 2])
def test_i4_a_link_to_a_snapshot_and_a_relative_path(
    hops: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = hub_cache(tmp_path / "hub", hops)
    (tmp_path / "link").symlink_to(snapshot)
    assert contents(open_directory(tmp_path / "link")) == {"a": 1}
    monkeypatch.chdir(snapshot)
    assert contents(open_directory(".")) == {"a": 1}


def test_i4_a_sharded_snapshot(tmp_path: Path) -> None:
    snapshot = hub_cache(tmp_path, 1)
    (snapshot / "model.safetensors").unlink()
    blobs = sharded(tmp_path / "models--org--name" / "blobs")
    for name in (INDEX, ONE, TWO):
        (snapshot / name).symlink_to(f"../../blobs/{name}")
    assert blobs and contents(open_directory(snapshot)) == {"a": 1, "bb": 2, "ccc": 3}


def test_i5_hard_links_and_links_inside_are_read(tmp_path: Path) -> None:
    save(tmp_path / "elsewhere" / "x", "a")
    (tmp_path / "hard").mkdir()
    os.link(tmp_path / "elsewhere" / "x", tmp_path / "hard" / "model.safetensors")
    assert contents(open_directory(tmp_path / "hard")) == {"a": 1}
    save(tmp_path / "soft" / "real" / "x", "a")
    (tmp_path / "soft" / "model.safetensors").symlink_to("real/x")
    assert contents(open_directory(tmp_path / "soft")) == {"a": 1}
