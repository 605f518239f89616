"""Model directories and shard indexes, good and bad; the ids I1… are kinds of bad input."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import safetensors_bytes as s

from rlxflow.dtypes import f16, f32
from rlxflow.errors import CorruptFile, MissingTensor, PathEscape, UnsupportedFile, WeightsError
from rlxflow.weights.directory import open_directory, open_weights
from rlxflow.weights.gguf import GgufFile
from rlxflow.weights.safetensors import SafetensorsFile
from rlxflow.weights.shards import ShardedWeights

INDEX = "model.safetensors.index.json"
ONE, TWO = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


def save(path: Path, *keys: str, dtype: str = "f4") -> None:
    """A file whose tensors are filled with the length of their key."""
    path.parent.mkdir(parents=True, exist_ok=True)
    safetensors.numpy.save_file({k: np.full((2, 3), len(k), dtype) for k in keys}, path)


def write_index(directory: Path, weight_map: Any, **more: Any) -> None:
    (directory / INDEX).write_text(json.dumps({"weight_map": weight_map, **more}))


def sharded(directory: Path, **more: Any) -> Path:
    """A good directory: `a` and `bb` in one shard, `ccc` in another."""
    save(directory / ONE, "a", "bb")
    save(directory / TWO, "ccc")
    write_index(directory, {"a": ONE, "bb": ONE, "ccc": TWO}, **more)
    return directory


def contents(source: Any) -> dict[str, float]:
    return {key: float(source.read(key)[0, 0]) for key in source.keys()}  # noqa: SIM118


# -- good ones


def test_one_file(tmp_path: Path) -> None:
    save(tmp_path / "model.safetensors", "a", "bb")
    for path in (tmp_path, str(tmp_path), tmp_path / "model.safetensors"):
        assert contents(open_weights(path)) == {"a": 1, "bb": 2}


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


# -- the cache of huggingface_hub


def hub_cache(root: Path, hops: int) -> Path:
    """A snapshot whose file links to the repo's blobs and, with two hops, on to the cache's shared blobs."""
    repo = root / "models--org--name"
    snapshot = repo / "snapshots" / "0123abc"
    snapshot.mkdir(parents=True)
    (repo / "blobs").mkdir()
    blob = repo / "blobs" / "feed"
    if hops == 2:
        save(root / "blobs" / "fe" / "feed", "a")
        blob.symlink_to("../../blobs/fe/feed")
    else:
        save(blob, "a")
    (snapshot / "model.safetensors").symlink_to("../../blobs/feed")
    return snapshot


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


# -- bad ones: a function that makes the directory; then class, code, and part of the hint


def index(weight_map: Any, **more: Any) -> Callable[[Path], None]:
    return lambda d: write_index(sharded(d), weight_map, **more)


def index_text(text: bytes | str) -> Callable[[Path], None]:
    data = text if isinstance(text, bytes) else text.encode()
    return lambda d: (sharded(d) / INDEX).write_bytes(data) and None


def without(*names: str) -> Callable[[Path], None]:
    def make(d: Path) -> None:
        sharded(d)
        for name in names:
            (d / name).unlink()

    return make


def only(name: str, data: bytes = b"x") -> Callable[[Path], None]:
    return lambda d: (d / name).write_bytes(data) and None


def link(name: str, target: str) -> Callable[[Path], None]:
    return lambda d: (d / name).symlink_to(target)


def file_named(shard: str) -> Callable[[Path], None]:
    return index({"a": shard, "bb": ONE, "ccc": TWO})


def two_files(d: Path) -> None:
    save(d / "x.safetensors", "a")
    save(d / "y.safetensors", "b")


def two_families(d: Path) -> None:
    for name in ("x", "y"):
        save(d / f"{name}-00001-of-00001.safetensors", name)


def two_indexes(d: Path) -> None:
    sharded(d)
    (d / INDEX).rename(d / "a.safetensors.index.json")
    (d / "b.safetensors.index.json").write_text("{}")
    (d / ONE).rename(d / "odd.safetensors")


def escape_through_a_folder(d: Path) -> None:
    save(d.parent / "other" / "model.safetensors", "a")
    (d / "sub").symlink_to(d.parent / "other")
    write_index(d, {"a": "sub/model.safetensors"})


def other_model(d: Path) -> None:
    save(d.parent / "other" / "model.safetensors", "a")
    (d / "model.safetensors").symlink_to(d.parent / "other" / "model.safetensors")


def other_repo_in_cache(d: Path) -> None:
    """A directory that only looks like a snapshot does not open the way to another repo's blobs."""
    save(d.parent / "models--evil" / "blobs" / "feed", "a")
    (d / "model.safetensors").symlink_to(d.parent / "models--evil" / "blobs" / "feed")


def like_a_snapshot(repo: str, folder: str) -> Callable[[Path], None]:
    """The model directory is a link to `repo/folder/rev`, whose file leads to `repo/blobs`."""

    def make(d: Path) -> None:
        real = d.parent / repo / folder / "rev"
        save(d.parent / repo / "blobs" / "feed", "a")
        real.mkdir(parents=True)
        (real / "model.safetensors").symlink_to("../../blobs/feed")
        d.rmdir()
        d.symlink_to(real)

    return make


def same_tensor_twice(d: Path) -> None:
    save(sharded(d) / TWO, "a", "ccc")


def same_tensor_twice_without_index(d: Path) -> None:
    same_tensor_twice(d)
    (d / INDEX).unlink()


def cut_shard(d: Path) -> None:
    path = sharded(d) / TWO
    path.write_bytes(path.read_bytes()[:-1])


def fifo(d: Path) -> None:
    sharded(d)
    (d / TWO).unlink()
    os.mkfifo(d / TWO)


def cache_root(d: Path) -> None:
    (d / "snapshots" / "0123abc").mkdir(parents=True)


AGAIN, ESCAPE, DAMAGED = "download it again", "from its source", "edited by hand"
CASES: dict[str, tuple[Callable[[Path], None], type[WeightsError], str, str]] = {
    "I1-several-files-no-index": (two_files, WeightsError, "W029", INDEX),
    "I1-two-families-no-index": (two_families, WeightsError, "W029", INDEX),
    "I1-two-indexes": (two_indexes, WeightsError, "W029", INDEX),
    "I1-one-of-two-no-index": (without(INDEX, TWO), WeightsError, "W026", "incomplete"),
    "I1-index-and-shards-gone": (without(INDEX, TWO, ONE), WeightsError, "W029", "model.safetensors"),
    "I1-family-of-99999": (
        lambda d: [save(d / f"m-0000{i}-of-99999.safetensors", str(i)) for i in (1, 2)] and None,
        WeightsError,
        "W026",
        "incomplete",
    ),
    "I2-not-json": (index_text("{weight_map}"), CorruptFile, "W013", DAMAGED),
    "I2-empty-file": (index_text(" "), CorruptFile, "W013", "get it again"),
    "I2-not-utf-8": (index_text(b'{"weight_map": "\xff"}'), CorruptFile, "W013", DAMAGED),
    "I2-deep": (index_text("[" * 100_000), CorruptFile, "W013", DAMAGED),
    "I2-duplicate-keys": (
        index_text('{"weight_map": {"a": "x", "a": "y"}}'),
        CorruptFile,
        "W013",
        DAMAGED,
    ),
    "I2-array": (index_text("[]"), CorruptFile, "W025", AGAIN),
    "I2-no-map": (index_text("{}"), CorruptFile, "W025", AGAIN),
    "I2-map-is-list": (index(["a"]), CorruptFile, "W025", AGAIN),
    "I2-empty-map": (index({}), CorruptFile, "W025", AGAIN),
    "I2-value-number": (index({"a": 1}), CorruptFile, "W025", AGAIN),
    "I2-value-null": (index({"a": None}), CorruptFile, "W025", AGAIN),
    "I3-shard-absent": (without(TWO), WeightsError, "W026", "incomplete"),
    "I3-all-shards-absent": (without(ONE, TWO), WeightsError, "W026", "incomplete"),
    "I3-tensor-in-no-shard": (index({"a": ONE, "x": TWO}), CorruptFile, "W027", AGAIN),
    "I3-tensor-in-other-shard": (index({"a": TWO, "ccc": ONE}), CorruptFile, "W027", AGAIN),
    "I3-shard-cut": (cut_shard, CorruptFile, "W017", "incomplete"),
    "I3-shard-is-lfs-pointer": (
        lambda d: (sharded(d) / ONE).write_bytes(b"version https://git-lfs.github.com/spec/v1\n") and None,
        CorruptFile,
        "W010",
        "git lfs pull",
    ),
    "I3-shard-is-fifo": (fifo, WeightsError, "W001", "check the path"),
    "I4-empty-name": (file_named(""), PathEscape, "W028", ESCAPE),
    "I4-dot": (file_named("./" + ONE), PathEscape, "W028", ESCAPE),
    "I4-double-slash": (file_named("sub//" + ONE), PathEscape, "W028", ESCAPE),
    "I4-trailing-slash": (file_named(ONE + "/"), PathEscape, "W028", ESCAPE),
    "I4-backslash": (file_named("..\\x.safetensors"), PathEscape, "W028", ESCAPE),
    "I4-drive": (file_named("C:x.safetensors"), PathEscape, "W028", ESCAPE),
    "I4-stream": (file_named("x.safetensors:s"), PathEscape, "W028", ESCAPE),
    "I4-url": (file_named("https://example.org/x.safetensors"), PathEscape, "W028", ESCAPE),
    "I4-file-url": (file_named("file:///etc/passwd"), PathEscape, "W028", ESCAPE),
    "I4-tilde": (file_named("~/x.safetensors"), PathEscape, "W028", ESCAPE),
    "I4-NUL": (file_named("x\0.safetensors"), PathEscape, "W028", ESCAPE),
    "I4-newline": (file_named("x\n.safetensors"), PathEscape, "W028", ESCAPE),
    "I4-file-with-odd-name": (only("x\n.safetensors"), PathEscape, "W028", ESCAPE),
    "I4-linked-folder": (escape_through_a_folder, PathEscape, "W028", "copy the file"),
    "I4-not-a-snapshot": (other_repo_in_cache, PathEscape, "W028", "copy the file"),
    "I4-repo-of-another-name": (like_a_snapshot("m", "snapshots"), PathEscape, "W028", "copy the file"),
    "I4-folder-of-another-name": (like_a_snapshot("models--m", "x"), PathEscape, "W028", "copy the file"),
    "I5-absolute": (file_named("/etc/passwd"), PathEscape, "W028", ESCAPE),
    "I5-parent": (file_named("../other/model.safetensors"), PathEscape, "W028", ESCAPE),
    "I5-parent-inside": (file_named("sub/../" + ONE), PathEscape, "W028", ESCAPE),
    "I5-percent-encoded": (file_named("%2e%2e/x.safetensors"), WeightsError, "W026", "incomplete"),
    "I5-link-to-passwd": (link("model.safetensors", "/etc/passwd"), PathEscape, "W028", "copy the file"),
    "I5-link-to-other-model": (other_model, PathEscape, "W028", "copy the file"),
    "I5-index-is-link": (link(INDEX, "/etc/passwd"), PathEscape, "W028", "copy the file"),
    "I5-dangling-link": (link("model.safetensors", "nowhere"), WeightsError, "W001", "repair the link"),
    "I5-link-to-itself": (
        link("model.safetensors", "model.safetensors"),
        WeightsError,
        "W001",
        "repair the link",
    ),
    "I5-names-differ-in-case": (
        index({"a": ONE, "bb": ONE.upper(), "ccc": TWO}),
        CorruptFile,
        "W025",
        AGAIN,
    ),
    "I5-name-of-300": (file_named("x" * 300), PathEscape, "W028", ESCAPE),
    "I5-name-of-2000": (file_named("x/" * 1000 + "x"), PathEscape, "W028", ESCAPE),
    "I8-pytorch-bin": (only("pytorch_model.bin"), UnsupportedFile, "W030", "safe_serialization=True"),
    "I8-pt": (only("model.pt"), UnsupportedFile, "W030", "never unpickles"),
    "I8-tensorflow": (only("tf_model.h5"), UnsupportedFile, "W030", "safe_serialization=True"),
    "I8-zip-named-safetensors": (
        only("model.safetensors", b"PK\3\4" + bytes(20)),
        UnsupportedFile,
        "W010",
        "never unpickles",
    ),
    "I8-nothing": (only("README.md"), WeightsError, "W029", "check the path"),
    "I8-cache-folder": (cache_root, WeightsError, "W029", "snapshots/0123abc"),
    "I8-gguf-only": (only("model.gguf"), WeightsError, "W029", ".gguf file itself"),
    "S20-tensor-in-two-shards": (same_tensor_twice, CorruptFile, "W031", AGAIN),
    "S20-without-index": (same_tensor_twice_without_index, CorruptFile, "W031", AGAIN),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_directory(case: str, tmp_path: Path) -> None:
    make, kind, code, hint = CASES[case]
    directory = tmp_path / "model"
    directory.mkdir()
    make(directory)
    with pytest.raises(kind) as caught:
        open_weights(directory)
    assert type(caught.value) is kind
    assert caught.value.code == f"RLX-{code}"
    assert hint in caught.value.hint
    assert caught.value.where and len(str(caught.value)) < 1500


def test_i3_every_missing_shard_is_named(tmp_path: Path) -> None:
    without(ONE, TWO)(tmp_path)
    with pytest.raises(WeightsError) as caught:
        open_directory(tmp_path)
    assert ONE in caught.value.message and TWO in caught.value.message
    assert caught.value.details["missing"] == [ONE, TWO]


@pytest.mark.parametrize("name", ["absent", "a\0b", "x" * 5000])
def test_no_such_directory(name: str, tmp_path: Path) -> None:
    for opener in (open_directory, open_weights):
        with pytest.raises(WeightsError) as caught:
            opener(tmp_path / name)
        assert caught.value.code == "RLX-W001"


def test_a_directory_that_may_not_be_listed(tmp_path: Path) -> None:
    directory = sharded(tmp_path)
    directory.chmod(0)
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65534)  # root may list everything
        with pytest.raises(WeightsError) as caught:
            open_weights(directory)
    finally:
        os.seteuid(user)
        directory.chmod(0o700)
    assert caught.value.code == "RLX-W001" and caught.value.hint


def test_a_file_is_not_a_directory(tmp_path: Path) -> None:
    save(tmp_path / "model.safetensors", "a")
    with pytest.raises(WeightsError) as caught:
        open_directory(tmp_path / "model.safetensors")
    assert caught.value.code == "RLX-W001"
    assert isinstance(open_weights(tmp_path / "model.safetensors"), SafetensorsFile)


def test_every_damaged_byte_of_an_index(tmp_path: Path) -> None:
    index_path = sharded(tmp_path) / INDEX
    good = index_path.read_bytes()
    for at, byte in enumerate(good):
        for new in {0x00, 0xFF, byte ^ 0x01, byte ^ 0x80} - {byte}:
            index_path.write_bytes(good[:at] + bytes([new]) + good[at + 1 :])
            with pytest.raises(WeightsError) as caught:
                open_directory(tmp_path)
            assert caught.value.hint
    for size in range(len(good)):
        index_path.write_bytes(good[:size])
        with pytest.raises(WeightsError):
            open_directory(tmp_path)
