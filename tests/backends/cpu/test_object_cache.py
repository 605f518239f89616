"""The cache of compiled code: used when whole, ignored when not, harmless when it cannot be written."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import rlxflow
from rlxflow.backends.cpu.llvm import host_target
from rlxflow.backends.cpu.object_cache import (
    CACHE_VARIABLE,
    cache_folder,
    cached_code,
    cached_files,
    clear_cache,
)

ROOT = Path(rlxflow.__file__).parent.parent
CODE = bytes(range(256)) * 40


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "objects"))
    found = cache_folder()
    assert found is not None
    return found


def made(text: str = "plan", code: bytes = CODE) -> tuple[bytes, int]:
    """What the cache gives, and how often code was made for it."""
    calls: list[int] = []
    found = cached_code(text, host_target(), f"code of {text}", lambda: calls.append(1) or code)  # type: ignore[func-returns-value]
    return found, len(calls)


def test_code_is_made_once(folder: Path) -> None:
    assert made() == (CODE, 1)
    assert made() == (CODE, 0)
    assert made("another plan") == (CODE, 1)
    assert len(list(folder.iterdir())) == 2
    assert folder.stat().st_mode & 0o777 == 0o700


def test_adding_a_file_removes_those_of_long_ago(folder: Path) -> None:
    days = {"a.o": 70, "b.program": 70, "c.new": 1, "d.o": 50, "e.new": 0, "of-others.txt": 700}
    for name, age in days.items():
        (folder / name).write_bytes(b"")
        os.utime(folder / name, (time.time() - age * 86400,) * 2)
    made()
    assert {p.name for p in folder.iterdir()} - {f.name for f in cached_files() if f.whole} == {
        "d.o",
        "e.new",
        "of-others.txt",
    }
    assert made() == (CODE, 0)


def test_the_name_depends_on_the_target(folder: Path) -> None:
    made()
    calls: list[int] = []
    cached_code("plan", host_target("avx2"), "", lambda: calls.append(1) or CODE)  # type: ignore[func-returns-value]
    assert calls


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "renamed", "link", "folder", "writable"])
def test_a_damaged_file_is_made_again(damage: str, folder: Path) -> None:
    made()
    (path,) = folder.iterdir()
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[:-1])
    elif damage == "flip":
        path.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "renamed":
        made("other", b"other code")
        (other,) = (p for p in folder.iterdir() if p != path)
        other.replace(path)
    elif damage == "link":
        path.rename(folder / "elsewhere")
        path.symlink_to(folder / "elsewhere")
    elif damage == "folder":
        path.unlink()
        path.mkdir()
    else:
        path.chmod(0o666)
    assert made() == (CODE, 1)
    if damage != "folder":
        assert made() == (CODE, 0)


def test_listing_tells_whole_files_from_damaged_ones(folder: Path) -> None:
    made()
    made("another\nplan")
    (folder / "unfinished.new").write_bytes(b"x")
    (folder / "not ours").write_bytes(b"x")
    found = {f.about: f for f in cached_files()}
    assert set(found) == {"code of plan", "code of another\\nplan", ""}
    assert [found[a].whole for a in sorted(found)] == [False, True, True]
    assert found["code of plan"].size > len(CODE)
    assert clear_cache() == 3 and cached_files() == []
    assert [p.name for p in folder.iterdir()] == ["not ours"]


def test_a_directory_that_others_may_write_is_not_used(folder: Path) -> None:
    made()
    folder.chmod(0o777)
    assert cache_folder() is None
    assert made() == (CODE, 1)
    assert len(list(folder.iterdir())) == 1


@pytest.mark.parametrize("value", ["", "/dev/null/objects", "/proc/objects", "\0"])
def test_no_directory_only_costs_time(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if "\0" in value:
        monkeypatch.setattr(os, "environ", {CACHE_VARIABLE: value})
    else:
        monkeypatch.setenv(CACHE_VARIABLE, value)
    assert made() == (CODE, 1) and made() == (CODE, 1)


def test_a_full_disk_only_costs_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    assert made() == (CODE, 1)
    assert not list(folder.iterdir())


def test_a_process_killed_while_writing_leaves_nothing_that_is_used(folder: Path) -> None:
    program = (
        "import os, pathlib\n"
        "from rlxflow.backends.cpu import llvm, object_cache\n"
        "pathlib.Path.replace = lambda *a: os.kill(os.getpid(), 9)\n"
        "object_cache.cached_code('plan', llvm.host_target(), 'x', lambda: bytes(100))\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], timeout=60, cwd=ROOT)
    assert ended.returncode == -9
    (left,) = folder.iterdir()
    assert left.suffix == ".new"
    assert made() == (CODE, 1) and made() == (CODE, 0)
    assert clear_cache() == 2 and not list(folder.iterdir())


def test_two_processes_share_what_one_made(folder: Path) -> None:
    program = (
        "from rlxflow.backends.cpu import team, llvm, object_cache\n"
        "made = []\n"
        "real = llvm.compile_text\n"
        "team.compile_text = lambda *a: made.append(1) or real(*a)\n"
        "t = team.Team(2); team._native(); print(len(made))"
    )
    for expected in ("1", "0"):
        command = [sys.executable, "-c", program]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT)
        assert ended.stdout.strip() == expected, ended.stderr
