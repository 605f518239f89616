"""Refuse weights that cannot fit in memory before a byte of them is read."""

from __future__ import annotations

from pathlib import Path

from rlxflow.errors import WeightsError

_CGROUP = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")


def check_memory(required_bytes: int, available: int | None = None) -> None:
    """Raise `WeightsError` (W036) when `required_bytes` is more than `available` (default: measured).

    Where the system does not tell what is available, nothing is checked.
    """
    if available is None:
        available = available_memory()
    if available is not None and required_bytes > available:
        raise WeightsError(
            f"the weights need {_gib(required_bytes)}, {_gib(available)} are available",
            code="RLX-W036",
            hint="use a smaller or more strongly quantised model, or close other programs",
            details={"required_bytes": required_bytes, "available_bytes": available},
        )


def available_memory() -> int | None:
    """Bytes this process can still take: the least of Linux's MemAvailable and the cgroup's room."""
    known = [room for room in (_meminfo(), _cgroup_v2(), _cgroup_v1()) if room is not None]
    return min(known) if known else None


def _meminfo() -> int | None:
    for line in _text(_MEMINFO).splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _cgroup_v2() -> int | None:
    reclaimable = _stat(_CGROUP / "memory.stat", "inactive_file")
    return _room(_CGROUP / "memory.max", _CGROUP / "memory.current", reclaimable)


def _cgroup_v1() -> int | None:
    folder = _CGROUP / "memory"
    reclaimable = _stat(folder / "memory.stat", "total_inactive_file")
    return _room(folder / "memory.limit_in_bytes", folder / "memory.usage_in_bytes", reclaimable)


def _room(limit: Path, used: Path, reclaimable: int) -> int | None:
    """The limit less what is used and cannot be taken back; None without a limit ("max")."""
    limit_text, used_text = _text(limit).strip(), _text(used).strip()
    if not (limit_text.isdecimal() and used_text.isdecimal()):
        return None
    return max(0, int(limit_text) - int(used_text) + reclaimable)


def _stat(path: Path, name: str) -> int:
    for line in _text(path).splitlines():
        key, _, value = line.partition(" ")
        if key == name and value.isdecimal():
            return int(value)
    return 0


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def _gib(count: int) -> str:
    return f"{count / 2**30:.2f} GiB"
