"""What this machine and this installation have. Nothing here is a secret: no names, no environment dump."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from rlxflow import __version__
from rlxflow.inspect.catalog import backends
from rlxflow.profile import preset_names
from rlxflow.runtime import chat_limits, chat_template, hub
from rlxflow.weights import gguf_cursor, gguf_reader, json_file, safetensors_header
from rlxflow.weights.memory import available_memory

_CPUINFO = Path("/proc/cpuinfo")
# Features that decide which kernels can run.
_FEATURES = (
    *("sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx_vnni"),
    *("avx512_bf16", "amx_tile", "amx_int8", "amx_bf16", "asimd", "asimddp", "i8mm", "bf16", "sve", "sve2"),
)


def machine() -> dict[str, Any]:
    """JSON-able data: versions, processor, memory, limits, cache places, presets, backends."""
    return {
        "rlxflow": __version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "packages": packages(),
        "cpu": {"model": _cpu_line("model name"), "features": cpu_features(), "cores": usable_cores()},
        "available_memory": available_memory(),
        "limits": limits(),
        "hub_cache": str(hub.cache_folder()),
        "presets": list(preset_names()),
        "backends": [name for name, _ in backends()],
    }


def packages() -> dict[str, str | None]:
    """Version of each package that rlxflow needs; None where it is not installed."""
    try:
        wanted = [line for line in requires("rlxflow") or () if "extra ==" not in line]
    except PackageNotFoundError:  # a source checkout that is on the path but not installed
        return {}
    return {name: _version(name) for name in map(_name, wanted)}


def cpu_features() -> list[str]:
    """Those of the features above that the processor has; empty where the system does not tell."""
    flags = set((_cpu_line("flags") or _cpu_line("Features")).split())
    return [name for name in _FEATURES if name in flags]


def usable_cores() -> int:
    """Cores this process may run on."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def limits() -> dict[str, int | float]:
    """The largest inputs that are read."""
    return {
        "safetensors header bytes": safetensors_header.HEADER_CAP,
        "safetensors elements per tensor": safetensors_header.MAX_ELEMENTS,
        "safetensors rank": safetensors_header.MAX_RANK,
        "JSON file bytes": json_file.MAX_BYTES,
        "JSON depth": json_file.MAX_DEPTH,
        "GGUF header bytes": gguf_cursor.MAX_HEADER_BYTES,
        "GGUF metadata keys": gguf_reader.MAX_KEYS,
        "GGUF tensors": gguf_reader.MAX_TENSORS,
        "GGUF string bytes": gguf_reader.MAX_STRING_BYTES,
        "GGUF array items": gguf_reader.MAX_ARRAY_ITEMS,
        "chat template characters": chat_template.MAX_TEMPLATE,
        "chat template seconds": chat_limits.MAX_SECONDS,
        "chat template output characters": chat_limits.MAX_OUTPUT,
    }


def machine_text(found: dict[str, Any]) -> str:
    """`machine()` for people, one fact per line."""
    cpu = found["cpu"]
    memory = found["available_memory"]
    lines = [
        f"rlxflow     {found['rlxflow']}",
        f"python      {found['python']}",
        f"system      {found['system']}",
        f"cpu         {cpu['model'] or 'unknown'}",
        f"cores       {cpu['cores']} usable",
        f"features    {' '.join(cpu['features']) or 'unknown'}",
        f"memory      {'unknown' if memory is None else f'{memory / 2**30:.1f} GiB available'}",
        f"hub cache   {found['hub_cache']}",
        f"presets     {', '.join(found['presets'])}",
        f"backends    {', '.join(found['backends'])}",
    ]
    lines += [f"package     {name} {there or 'is missing'}" for name, there in found["packages"].items()]
    lines += [f"limit       {name} {value:,}" for name, value in found["limits"].items()]
    return "\n".join(lines)


def _name(requirement: str) -> str:
    """`numpy` of `numpy>=1.26`."""
    for mark in "<>=!~;[ ":
        requirement = requirement.split(mark)[0]
    return requirement


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _cpu_line(name: str) -> str:
    """The first value of a line of /proc/cpuinfo, or ""."""
    try:
        text = _CPUINFO.read_text("utf-8", errors="replace")
    except OSError:
        return ""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""
