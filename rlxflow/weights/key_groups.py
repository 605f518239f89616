"""Long lists of tensor names folded into a few patterns with layer ranges."""

from __future__ import annotations

from collections.abc import Iterable

from rlxflow.errors import printable
from rlxflow.quick_dataclass import dataclass

Template = tuple[str | None, ...]
"""The components of a key, with None where there is a number."""


@dataclass(frozen=True)
class KeyGroup:
    """Keys that share a pattern, such as `model.layers.[0-27].{self_attn,mlp}…`."""

    pattern: str
    count: int

    def __str__(self) -> str:
        return printable(self.pattern, 120) + (f"  ({self.count})" if self.count > 1 else "")


def group_keys(keys: Iterable[str]) -> tuple[KeyGroup, ...]:
    """The keys as patterns, in order of their first key; every key is counted in one group."""
    numbers: dict[Template, list[tuple[int, ...]]] = {}
    for key in keys:
        template, values = split_numbers(key)
        numbers.setdefault(template, []).append(values)
    families: dict[tuple[Template, str], list[Template]] = {}
    for template, found in numbers.items():
        layers = ranges(n[0] for n in found) if None in template else ""
        head = template[: template.index(None) + 1] if None in template else template[:1]
        families.setdefault((head, layers), []).append(template)
    return tuple(_group(templates, layers, numbers) for (_, layers), templates in families.items())


def split_numbers(key: str) -> tuple[Template, tuple[int, ...]]:
    """A key's template and the numbers taken out of it."""
    parts = key.split(".")
    is_number = [part.isascii() and part.isdecimal() and len(part) < 10 for part in parts]
    template = tuple(None if n else part for part, n in zip(parts, is_number, strict=True))
    return template, tuple(int(part) for part, n in zip(parts, is_number, strict=True) if n)


def ranges(numbers: Iterable[int]) -> str:
    """`0-3,7` for 0, 1, 2, 3 and 7."""
    spans: list[list[int]] = []
    for number in sorted(set(numbers)):
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)


def _group(
    templates: list[Template], layers: str, numbers: dict[Template, list[tuple[int, ...]]]
) -> KeyGroup:
    count = sum(len(numbers[template]) for template in templates)
    if len(templates) == 1:
        columns = iter(zip(*numbers[templates[0]], strict=True))
        parts = [_bracket(ranges(next(columns))) if part is None else part for part in templates[0]]
        return KeyGroup(".".join(parts), count)
    shared = 0
    while all(len(t) > shared and t[shared] == templates[0][shared] for t in templates):
        shared += 1
    head, first = [], True
    for part in templates[0][:shared]:
        head.append(part if part is not None else (_bracket(layers) if first else "*"))
        first = first and part is not None
    choices = list(dict.fromkeys(_shown(t[shared]) if len(t) > shared else "" for t in templates))
    braces = "{" + ",".join(choices[:5]) + (",…" if len(choices) > 5 else "") + "}"
    tails = {t[shared + 1 :] for t in templates}
    tail = tails.pop() if len(tails) == 1 else ("…",)
    return KeyGroup(".".join([*head, braces, *(_shown(part) for part in tail)]), count)


def _shown(part: str | None) -> str:
    return "*" if part is None else part


def _bracket(layers: str) -> str:
    return layers if layers.isdecimal() else f"[{layers}]"
