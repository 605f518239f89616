"""What `load` takes as a path: local ones, and hub ids that are in the Hugging Face cache."""

from __future__ import annotations

from pathlib import Path

import goldens
import pytest
from model_files import run, write_golden

import rlxflow
from rlxflow.errors import WeightsError
from rlxflow.runtime.hub import resolve

REVISION, OTHER = "0123456789abcdef" * 2 + "01234567", "f" * 40


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "hub"
    folder.mkdir()
    monkeypatch.setenv("HF_HUB_CACHE", str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


def snapshot(cache: Path, revision: str = REVISION, main: str | None = REVISION) -> Path:
    """A snapshot folder of org/name; `refs/main` holds `main`."""
    repo = cache / "models--org--name"
    folder = repo / "snapshots" / revision
    folder.mkdir(parents=True)
    if main is not None:
        (repo / "refs").mkdir(exist_ok=True)
        (repo / "refs" / "main").write_text(main)
    return folder


def test_a_cached_model_loads_through_links_to_blobs(cache: Path) -> None:
    golden = goldens.hf_case("llama", "plain")
    folder = write_golden(snapshot(cache), golden)
    blobs = folder.parents[1] / "blobs"
    blobs.mkdir()
    for number, path in enumerate(sorted(folder.iterdir())):
        path.rename(blobs / f"{number:040}")
        path.symlink_to(f"../../blobs/{number:040}")
    model = rlxflow.load("org/name")
    assert golden.error(run(model, golden)) <= 1e-5


def test_main_is_chosen(cache: Path) -> None:
    snapshot(cache, OTHER)
    wanted = snapshot(cache)
    assert resolve("org/name") == wanted


def test_the_only_snapshot_is_chosen(cache: Path) -> None:
    wanted = snapshot(cache, main=None)
    assert resolve("org/name") == wanted


def test_hf_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    wanted = snapshot(tmp_path / "hub")
    assert resolve("org/name") == wanted


def test_a_local_path_wins(cache: Path, tmp_path: Path) -> None:
    snapshot(cache)
    (tmp_path / "org" / "name").mkdir(parents=True)
    assert resolve("org/name") == Path("org/name")


@pytest.mark.parametrize(
    ("main", "revisions"),
    [(None, []), (None, [REVISION, OTHER]), ("../../../..", [REVISION, OTHER]), (OTHER, [])],
    ids=["nothing", "two-and-no-main", "main-leads-out", "main-is-not-there"],
)
def test_not_in_the_cache(main: str | None, revisions: list[str], cache: Path) -> None:
    for revision in revisions:
        snapshot(cache, revision, main)
    with pytest.raises(WeightsError) as caught:
        rlxflow.load("org/name")
    assert caught.value.code == "RLX-W004"
    assert "hf download org/name" in caught.value.hint
    assert caught.value.where == str(cache)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "missing",
        "./org/name",
        "org/name/more",
        "a\0b",
        "~no_such_user_here/x",
        "x" * 5000,
        "org/..",
        None,
        5,
    ],
)
def test_no_such_path(path: object, cache: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        rlxflow.load(path)  # type: ignore[arg-type]
    assert caught.value.code in ("RLX-W001", "RLX-W004")
    assert caught.value.hint and caught.value.message.isprintable()


def test_path_like_and_bytes(tmp_path: Path) -> None:
    assert resolve(tmp_path) == tmp_path
    assert resolve(bytes(tmp_path)) == tmp_path  # type: ignore[arg-type]
