"""Model directories and shard indexes that are refused; the ids I1… are kinds of bad input."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from directory_samples import INDEX, ONE, TWO, save, sharded, write_index

from rlxflow.errors import CorruptFile, PathEscape, UnsupportedFile, WeightsError
from rlxflow.weights.directory import open_directory, open_weights
from rlxflow.weights.safetensors import SafetensorsFile

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
