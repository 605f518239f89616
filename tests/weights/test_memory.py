"""The memory check, with the kernel's files replaced."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlxflow.errors import WeightsError
from rlxflow.weights import memory

GIB = 1 << 30


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine that tells nothing until files are written."""
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    return tmp_path


def test_refuses_what_cannot_fit() -> None:
    memory.check_memory(10, 10)
    with pytest.raises(WeightsError) as caught:
        memory.check_memory(280 * GIB, 24 * GIB)
    assert caught.value.code == "RLX-W036"
    assert caught.value.message == "the weights need 280.00 GiB, 24.00 GiB are available"
    assert "smaller" in caught.value.hint
    assert caught.value.details == {"required_bytes": 280 * GIB, "available_bytes": 24 * GIB}


def test_this_machine_has_memory_but_no_exabyte() -> None:
    memory.check_memory(1)
    with pytest.raises(WeightsError):
        memory.check_memory(1 << 60)


def test_meminfo(system: Path) -> None:
    (system / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:    2048 kB\n")
    assert memory.available_memory() == 2048 * 1024


def test_the_least_counts(system: Path) -> None:
    (system / "meminfo").write_text("MemAvailable: 1000000 kB\n")
    (system / "memory.max").write_text("5000\n")
    (system / "memory.current").write_text("4500\n")
    assert memory.available_memory() == 500
    (system / "memory.stat").write_text("anon 7\ninactive_file 300\n")
    assert memory.available_memory() == 800  # cached file pages can be dropped


def test_cgroup_v1(system: Path) -> None:
    (system / "memory").mkdir()
    (system / "memory" / "memory.limit_in_bytes").write_text("1000\n")
    (system / "memory" / "memory.usage_in_bytes").write_text("1200\n")
    assert memory.available_memory() == 0


@pytest.mark.parametrize("content", [None, "", "max", "nonsense \xff", "-1"])
def test_a_system_that_does_not_tell(content: str | None, system: Path) -> None:
    if content is not None:
        for name in ("meminfo", "memory.max", "memory.current", "memory.stat"):
            (system / name).write_text(content)
    assert memory.available_memory() is None
    memory.check_memory(1 << 60)
