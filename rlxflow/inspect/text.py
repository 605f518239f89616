"""An `Inspection` as text for people."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from pathlib import PurePath

from rlxflow.errors import printable
from rlxflow.inspect.inspection import Inspection
from rlxflow.inspect.memory_plan import MemoryPlan
from rlxflow.inspect.tensors import TensorGroup
from rlxflow.runtime.embedding_settings import EmbeddingSettings

_LABEL = 12  # width of the first column, as in load reports
_WIDTH = 110
_MAX_ROWS = 100


def inspection_text(found: Inspection) -> str:
    """Files, config, memory, tensors, load report and errors, in this order."""
    lines = [_line("model", printable(found.path))]
    lines += _wrapped("files", _files(found.files))
    lines.append(_line("recipe", found.recipe or "none"))
    lines += _wrapped("config", [f"{printable(k, 60)} {_value(v)}" for k, v in found.config.items()])
    if found.rope:
        theta, width = found.rope["theta"], found.rope["rotary_dim"]
        lines.append(_line("rope", f"base {theta:,.10g}  rotary_dim {width}  {found.rope['rope_type']}"))
    lines.append(_line("tokenizer", found.tokenizer or "none: takes token ids only"))
    if found.embedding:
        lines.append(_line("pooling", _pooling(found.embedding)))
    if found.memory:
        lines += _memory(found.memory)
    if found.profile or found.trades:
        lines.append(_line("profile", _profile(found)))
    if found.report:
        lines.append(str(found.report))
    lines += ["", *tensor_table(found.tensors)]
    lines.append(f"{found.parameters:,} parameters, {size_text(found.nbytes)} stored")
    lines += [_line("unreadable", f"{printable(key)}  {reason}") for key, reason in found.unreadable[:5]]
    for part, error in found.errors.items():
        lines += ["", _line(part, str(error).replace("\n", "\n" + " " * _LABEL))]
    return "\n".join(lines)


def tensor_table(groups: tuple[TensorGroup, ...]) -> list[str]:
    """One row per group: pattern, count, dtype, shape, parameters, bytes."""
    rows = [("tensors", "count", "dtype", "shape", "parameters", "bytes")]
    for g in groups[:_MAX_ROWS]:
        shape = "[" + ", ".join(map(str, g.shape)) + "]"
        sizes = f"{g.parameters:,}", size_text(g.nbytes)
        rows.append((printable(g.pattern, 90), str(g.count), g.dtype, shape, *sizes))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    aligned = "<><<>>"
    lines = ["  ".join(f"{c:{a}{w}}" for c, a, w in zip(row, aligned, widths, strict=True)) for row in rows]
    if len(groups) > _MAX_ROWS:
        lines.append(f"… and {len(groups) - _MAX_ROWS} more groups")
    return lines


def size_text(count: int) -> str:
    """Bytes as people read them, in powers of 1000: `3.44 GB`."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}" if unit != "B" else f"{count} B"
        size /= 1000
    return f"{size:,.2f} TB"


def _files(files: tuple[tuple[str, int], ...]) -> list[str]:
    """Weight files counted by kind, the rest by name."""
    kinds: dict[str, list[int]] = {}
    names = []
    for name, size in files:
        suffix = PurePath(name).suffix
        if suffix in (".safetensors", ".gguf"):
            kinds.setdefault(suffix, []).append(size)
        else:
            names.append(printable(name, 60))
    weights = [f"{len(sizes)} *{kind}, {size_text(sum(sizes))}" for kind, sizes in kinds.items()]
    return weights + names[:20]


def _pooling(settings: EmbeddingSettings) -> str:
    parts: list[str] = [settings.pooling]
    parts += ["normalised"] if settings.normalize else []
    parts += [f"at most {settings.max_length} tokens"] if settings.max_length else []
    parts += [f"prompts {', '.join(settings.prompts)}"] if settings.prompts else []
    return ", ".join(parts)


def _profile(found: Inspection) -> str:
    text = f"{found.profile}, trades {'; '.join(found.trades) or 'nothing'}"
    if found.profile == "exact":
        decoder = found.memory is not None and found.memory.cache_per_token
        text += f"; faster: --profile {'decode' if decoder else 'encoder'}"
    return text


def _memory(plan: MemoryPlan) -> list[str]:
    available = "" if plan.available is None else f"; {size_text(plan.available)} available"
    too_much = "  does not fit" if plan.fits is False else ""
    kept = f"weights {size_text(plan.stored)} stored, {size_text(plan.weights)} on backend {plan.backend}"
    loading = f", {size_text(plan.loading)} while loading"
    lines = [_line("memory", kept + loading + available + too_much)]
    if plan.activations is not None:
        lines.append(_line("", f"activations {size_text(plan.activations)} for {plan.tokens} tokens"))
    if plan.cache_per_token:
        sizes = [f"{plan.cache_per_token:,} bytes per token"]
        if plan.cache_at_context is not None:
            sizes.append(f"{size_text(plan.cache_at_context)} for {plan.context:,} tokens")
        if plan.cache_at_most is not None:
            sizes.append(f"{size_text(plan.cache_at_most)} at the longest")
        lines.append(_line("cache", ", ".join(sizes)))
    return lines


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{printable(k, 40)} {_value(v)}" for k, v in list(value.items())[:12]) + "}"
    return printable(value, 60)


def _wrapped(label: str, parts: Iterable[str]) -> list[str]:
    text = " · ".join(part.replace(" ", "\u00a0") for part in parts)  # a part stays on one line
    lines = textwrap.wrap(text, _WIDTH - _LABEL) or ["none"]
    return [_line(label if i == 0 else "", line.replace("\u00a0", " ")) for i, line in enumerate(lines)]


def _line(label: str, text: str) -> str:
    return f"{label:<{_LABEL}}{text}"
