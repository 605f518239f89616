"""Everything that is wrong with a model, part by part."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

from rlxflow.errors import RlxError, TokenizerError, printable
from rlxflow.flow.vision_config import VisionConfig
from rlxflow.inspect.accuracy import measure
from rlxflow.inspect.examine import Examination, examine
from rlxflow.inspect.values import bad_values, bad_values_error
from rlxflow.quick_dataclass import dataclass
from rlxflow.runtime.chat_template import render_chat
from rlxflow.runtime.compile import memory_of
from rlxflow.runtime.progress import bar
from rlxflow.weights.memory import check_memory
from rlxflow.weights.source import WeightSource

if TYPE_CHECKING:
    from rlxflow.profile.model import CompileProfile
    from rlxflow.runtime.tokenizer import Tokenizer

_REFUSED = "RLX-T033"  # by the template's own words
Status = Literal["ok", "failed", "absent", "skipped"]


@dataclass(frozen=True)
class Checked:
    """One part of a model. "absent" is no fault; "skipped" needs a part that failed."""

    part: str
    status: Status
    note: str = ""
    error: RlxError | None = None


def check_model(
    path: str | os.PathLike[str],
    profile: str | CompileProfile | None = None,
    recipe: str | None = None,
    *,
    values: bool = False,
    accuracy: bool = False,
    progress: bool | None = None,
) -> tuple[Checked, ...]:
    """Check files, config, pooling, flow, weights, memory, tokenizer and chat template.

    With `values` the weights' numbers too, which reads everything; with `accuracy` also what the profile
    trades: the model is run as it says and in f32, see `accuracy.measure`.

    Raises `WeightsError` where there is nothing at the path, or one file that cannot be opened.
    """
    e = examine(path, profile, recipe)
    tokenizer = e.attempt("tokenizer", lambda: _tokenizer(e))
    template = e.attempt("chat template", lambda: _chat_template(e, tokenizer))
    built, source = e.built, e.source
    if built is not None:
        e.attempt("memory", lambda: check_memory(memory_of(built, 1).loading))
    if values and source is not None:
        e.attempt("values", lambda: _check_values(source, printable(e.path), progress))
    parts = [
        _part(e, "files", source),
        _part(e, "config", e.config, e.recipe.model_type if e.recipe else ""),
        _part(e, "pooling", e.embedding, e.embedding.pooling if e.embedding else "", optional=True),
        _part(e, "flow", e.flow, f"{len(e.flow.stages)} stages" if e.flow else ""),
        _part(e, "profile", built, built.profile.source if built else ""),
        _part(e, "weights", built, f"{built.report.found} tensors" if built else ""),
        _part(e, "memory", built),
        _part(e, "tokenizer", tokenizer, _tokens(tokenizer), optional=True),
        _part(e, "chat template", template, optional=True),
    ]
    if isinstance(e.config, VisionConfig):
        size = f"{e.images.size[0]} × {e.images.size[1]}" if e.images else ""
        parts[2] = _part(e, "images", e.images, size, optional=True)  # no texts are pooled
    if values:
        parts.append(_part(e, "values", source))
    if accuracy:
        parts.append(_accuracy(e, parts, profile, recipe, progress))
    return tuple(parts)


def _accuracy(
    e: Examination,
    parts: list[Checked],
    profile: str | CompileProfile | None,
    recipe: str | None,
    progress: bool | None,
) -> Checked:
    """Measured where nothing failed so far."""
    if any(part.status == "failed" for part in parts):
        return Checked("accuracy", "skipped")
    measured = e.attempt("accuracy", lambda: measure(e.path, profile, recipe, progress=progress))
    return _part(e, "accuracy", measured, str(measured), optional=True)


def _part(e: Examination, part: str, value: object, note: str = "", *, optional: bool = False) -> Checked:
    if part in e.errors:
        return Checked(part, "failed", "", e.errors[part])
    if value is not None:
        return Checked(part, "ok", note)
    return Checked(part, "absent" if optional else "skipped")


def _tokenizer(e: Examination) -> Tokenizer | None:
    """The tokenizer, each of whose ids has a row of the model's embedding."""
    tokenizer = e.files.tokenizer
    rows = getattr(e.config, "vocab_size", None)
    if tokenizer is not None and rows is not None:
        tokenizer.check_rows(rows)
    return tokenizer


def _tokens(tokenizer: Tokenizer | None) -> str:
    return "" if tokenizer is None else f"{tokenizer.vocab_size:,} tokens"


def _chat_template(e: Examination, tokenizer: Tokenizer | None) -> str | None:
    """The template, tried on one message; that it wants other messages is no fault."""
    template = e.files.chat_template
    if template is None:
        return None
    bos, eos = (tokenizer.special.bos, tokenizer.special.eos) if tokenizer else (None, None)
    message = {"role": "user", "content": "Hello"}
    try:
        render_chat(template, [message], bos_token=bos or "", eos_token=eos or "")
    except TokenizerError as error:
        if error.code != _REFUSED:
            raise
    return template


def _check_values(source: WeightSource, where: str, progress: bool | None) -> None:
    total = sum(source.info(key).nbytes for key in source.keys())  # noqa: SIM118 (a source is no mapping)
    with bar(total, "reading", progress, unit="B") as advance:
        found = list(bad_values(source, advance))
    if found:
        raise bad_values_error(found, where)
