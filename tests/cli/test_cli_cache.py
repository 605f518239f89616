"""`rlxflow cache`: list, verify, clear."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from cli_models import Result

from rlxflow.backends.cpu.llvm import host_target
from rlxflow.backends.cpu.object_cache import CACHE_VARIABLE, cached_code

Cli = Callable[..., Result]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "objects"))
    for text in ("one", "two"):
        cached_code(text, host_target(), f"plan {text}", lambda: b"code")
    return tmp_path / "objects"


def test_list(cli: Cli, folder: Path) -> None:
    shown = cli("cache", "list")
    assert shown.code == 0 and "plan one" in shown.out and "plan two" in shown.out
    assert f"2 files, 0 damaged, 0.0 MB in {folder}" in shown.out
    data = cli("cache", "list", "--json").data
    assert data["folder"] == str(folder) and {f["about"] for f in data["files"]} == {"plan one", "plan two"}


def test_verify_names_damaged_files(cli: Cli, folder: Path) -> None:
    assert cli("cache", "verify").code == 0
    path = next(folder.iterdir())
    path.write_bytes(path.read_bytes()[:-1])
    shown = cli("cache", "verify")
    assert shown.code == 1 and "damaged" in shown.out and path.name[:12] in shown.out


def test_without_a_home_nothing_is_kept(
    cli: Cli, bert: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user of a container that no one named: neither HOME nor an entry of its own."""
    for variable in ("RLXFLOW_CACHE", "XDG_CACHE_HOME", "HF_HUB_CACHE", "HF_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    monkeypatch.chdir(tmp_path)
    assert cli("embed", bert, "a cat").code == 0
    assert "0 files, 0 damaged, 0.0 MB in no folder that can be used" in cli("cache", "list").out
    assert cli("cache", "list", "--json").data == {"folder": None, "files": []}
    assert cli("doctor").code == 0
    assert "RLX-W004" in cli("embed", "org/model", "a cat").err
    assert not list(tmp_path.iterdir())


def test_what_may_be_asked_is_told(cli: Cli) -> None:
    assert "ACTION: list, verify, clear" in cli("cache").err


def test_clear(cli: Cli, folder: Path) -> None:
    assert cli("cache", "clear", "--json").data["removed"] == 2
    assert not list(folder.iterdir())
    assert cli("cache", "list").code == 0


def test_without_a_directory(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, "")
    assert "0 files" in cli("cache", "list").out
    assert cli("cache", "remove").code == 2
