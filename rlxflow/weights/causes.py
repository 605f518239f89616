"""Why a checkpoint does not fit a model: the usual reasons, told from names and shapes alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from itertools import islice

from rlxflow.errors import printable
from rlxflow.quick_dataclass import dataclass
from rlxflow.weights.key_groups import ranges, split_numbers

Shapes = Sequence[tuple[str, tuple[int | None, ...], tuple[int, ...]]]
"""Mismatches as (key, wanted shape, found shape)."""

_BASE = "use the unquantised checkpoint of this model, or a GGUF file"

# (what, key endings that all must occur); the first row that holds is the family
_QUANTISED: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("GPTQ", (".qweight", ".g_idx")),
    ("AWQ", (".qweight", ".qzeros")),
    ("GPTQ or AWQ", (".qweight",)),
    ("bitsandbytes 8-bit", (".SCB",)),
    ("bitsandbytes 4-bit", (".absmax",)),
    ("compressed-tensors", (".weight_packed",)),
    ("block-scaled FP8", (".weight_scale_inv",)),
    ("FP8", (".weight_scale",)),
    ("MXFP4", ("_blocks", "_scales")),
)

_COMMON = 64

_HEADS = ("lm_head.weight", "embed_out.weight", "output.weight")


@dataclass(frozen=True)
class Cause:
    """A guess at what is wrong, and the next step."""

    text: str
    hint: str


@dataclass(frozen=True)
class Findings:
    """What the causes look at: wanted keys that were found and that are missing, stored keys nothing uses."""

    found: Collection[str]
    missing: Sequence[str]
    unused: Sequence[str]
    mismatched: Shapes = ()


def likely_cause(findings: Findings) -> Cause | None:
    """The first usual reason that fits, the most specific ones first; None where none does."""
    for test in _TESTS:
        cause = test(findings)
        if cause:
            return cause
    return None


def quantised(f: Findings) -> Cause | None:
    """Scales and packed integers beside or instead of weights."""
    for family, endings in _QUANTISED:
        counts = [sum(key.endswith(ending) for key in f.unused) for ending in endings]
        if all(counts):
            text = f'this is a {family} checkpoint ({counts[0]} keys end in "{endings[0]}")'
            return Cause(text, _BASE)
    return None


def _adapter(f: Findings) -> Cause | None:
    if any(".lora_A." in key for key in f.unused):
        return Cause(
            "this is a LoRA adapter, not a model", "merge it into its base model and load the result"
        )
    return None


def _other_prefix(f: Findings) -> Cause | None:
    """Most missing keys exist with one piece at their front added, removed or replaced."""
    unused = set(f.unused)
    candidates: Counter[tuple[str, str]] = Counter()
    step = max(1, len(f.missing) // 8)
    for key in f.missing[::step][:9]:
        candidates.update(_front_changes(key, f.unused))
    best, hits = ("", ""), 0
    for (old, new), _ in candidates.most_common(16):
        count = sum(key.startswith(old) and new + key[len(old) :] in unused for key in f.missing)
        if count > hits:
            best, hits = (old, new), count
    if 2 * hits < len(f.missing) or hits < 2:
        return None
    old, new = (printable(part) for part in best)
    every = "every missing key exists" if hits == len(f.missing) else f"{hits} missing keys exist"
    if not old:
        hint = f'name it: prefixes=("", "{new}"), or choose the recipe of the whole model'
        return Cause(f'{every} with "{new}" in front', hint)
    how = f'with "{new}" in place of "{old}"' if new else f'without "{old}" in front'
    return Cause(f"{every} {how}", "choose the recipe that fits this checkpoint, or give it these names")


def _front_changes(key: str, unused: Sequence[str]) -> set[tuple[str, str]]:
    """(old front, new front) pairs that turn `key` into stored keys, keeping as much of it as possible."""
    at = 0
    while "." in key[at:]:
        tail, dotted = key[at:], "." + key[at:]
        hits = list(islice((u for u in unused if u.endswith(dotted) or u == tail), _COMMON))
        if hits:  # an ending that very many keys have tells nothing
            return {(key[:at], u[: -len(tail)]) for u in hits} if len(hits) < _COMMON else set()
        at = key.index(".", at) + 1
    return set()


def _gamma_beta(f: Findings) -> Cause | None:
    unused = set(f.unused)
    old = [key for key in f.missing if _gamma(key) in unused]
    if not old:
        return None
    text = f'{len(old)} missing norm weights exist under the old names "gamma" and "beta"'
    return Cause(text, "save the checkpoint again with a current transformers, which renames them")


def _gamma(key: str) -> str:
    stem, _, last = key.rpartition(".")
    return f"{stem}." + {"weight": "gamma", "bias": "beta"}.get(last, last)


def _head_only(f: Findings) -> Cause | None:
    if f.missing and all(key.endswith(_HEADS) for key in f.missing) and f.found:
        return Cause(
            "only the output head is missing: it is tied to the embeddings, or the checkpoint has none",
            "set tie_word_embeddings to true, or use a recipe without a head",
        )
    return None


def _layer_count(f: Findings) -> Cause | None:
    """The layers of the file and those of the model end at different numbers."""
    found, missing, unused = (_layers(keys) for keys in (f.found, f.missing, f.unused))
    all_numbered = len(missing) and all(split_numbers(key)[1] for key in f.missing)
    if found and all_numbered and min(missing) > max(found):
        text = f"the files have layers {ranges(found)}, the model wants layers {ranges(missing)} too"
        return Cause(text, "check num_hidden_layers in config.json, or complete the download")
    if found and unused and not f.missing and min(unused) > max(found):
        text = f"the files have layers {ranges(unused)} that the model, with {len(found)} layers, leaves out"
        return Cause(text, "check num_hidden_layers in config.json")
    return None


def _layers(keys: Collection[str]) -> set[int]:
    return {numbers[0] for key in keys if (numbers := split_numbers(key)[1])}


def _transposed(f: Findings) -> Cause | None:
    turned = [key for key, wanted, found in f.mismatched if len(set(found)) > 1 and wanted == found[::-1]]
    if turned and 2 * len(turned) >= len(f.mismatched):
        text = f"{len(turned)} tensors are stored transposed, [in, out]"
        return Cause(text, "the checkpoint uses the Conv1D layout of GPT-2: transpose them when saving")
    return None


def _one_size(f: Findings) -> Cause | None:
    """Every mismatch is one number standing where another was wanted."""
    pairs = Counter(
        (want, have)
        for _, wanted, found in f.mismatched
        if len(wanted) == len(found)
        for want, have in zip(wanted, found, strict=True)
        if want is not None and want != have
    )
    if len(pairs) != 1 or any(len(wanted) != len(found) for _, wanted, found in f.mismatched):
        return None
    (want, have), _ = pairs.most_common(1)[0]
    text = f"the files have {have} wherever the model wants {want}"
    if all("embed" in key or key.endswith(_HEADS) for key, *_ in f.mismatched):
        text += " (rows of the vocabulary)"
    return Cause(text, "config.json and weights belong to different models; get both from one place")


def _other_model(f: Findings) -> Cause | None:
    if not f.missing or len(f.found) * 10 > len(f.missing) or not f.unused:
        return None
    fronts = Counter(".".join(part or "N" for part in split_numbers(key)[0][:3]) for key in f.unused)
    names = ", ".join(printable(front, 40) for front, _ in fronts.most_common(3))
    return Cause(f"another architecture: the keys look like {names}", "choose the recipe of this model")


_TESTS: tuple[Callable[[Findings], Cause | None], ...] = (
    quantised,
    _adapter,
    _gamma_beta,
    _other_prefix,
    _head_only,
    _layer_count,
    _transposed,
    _one_size,
    _other_model,
)
