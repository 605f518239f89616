"""The exception tree. Every error has a code, one line, a place, and a next step.

RlxError
├── WeightsError      a tensor file, index or directory            RLX-W…
│   ├── CorruptFile         the bytes contradict the format
│   ├── UnsupportedFile     well formed, but not something we read
│   ├── MissingTensor       a wanted tensor is not there
│   ├── ShapeMismatch       a tensor has another shape than wanted
│   └── PathEscape          a file name leads out of its directory
├── ConfigError       config.json, GGUF metadata, recipes          RLX-C…
├── TokenizerError    tokenizer files, chat templates, messages    RLX-T…
├── ProfileError      *.rlx.toml                                   RLX-P…
├── FlowError         a flow wired wrongly                         RLX-F…
├── GraphError        a graph that breaks an op's rule             RLX-I…
├── FusionError       the fusion pipeline                          RLX-U…
├── BackendError      a backend cannot compile or run              RLX-B…
├── InputError        arguments of a call                          RLX-R…
└── PluginError       an entry point that does not load            RLX-X…
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any


class RlxError(Exception):
    """Base of every error rlxflow raises on purpose.

    `code` names the kind (listed in docs/errors.md), `message` is one line, `where` is a place that an
    editor or a reader can find (file:line, tensor key, stage path), `hint` is the next step, and
    `details` holds structured facts that `--json` prints.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str,
        where: str = "",
        hint: str = "",
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.where = where
        self.hint = hint
        self.details = details or {}

    def __str__(self) -> str:
        head = f"{self.code}  {self.message}"
        if self.where:
            head += f"\n  at   {self.where}"
        if self.hint:
            head += f"\n  try  {self.hint}"
        return head

    def as_dict(self) -> dict[str, Any]:
        """The error as JSON-able data."""
        return {
            "error": type(self).__name__,
            "code": self.code,
            "message": self.message,
            "where": self.where,
            "hint": self.hint,
            "details": self.details,
        }


class WeightsError(RlxError):
    """A tensor file, shard index or model directory cannot be used."""


class CorruptFile(WeightsError):
    """The bytes contradict the file format."""


class UnsupportedFile(WeightsError):
    """The file is well formed but of a kind that rlxflow does not read."""


class MissingTensor(WeightsError):
    """A wanted tensor is in no file."""


class ShapeMismatch(WeightsError):
    """A tensor is there with another shape than the model wants."""


class PathEscape(WeightsError):
    """A file name in a model leads out of the model's directory."""


class ConfigError(RlxError):
    """A model configuration is missing, contradictory or not supported."""


class TokenizerError(RlxError):
    """A tokenizer file, a chat template or a message list cannot be used."""


class ProfileError(RlxError):
    """A compile profile is not valid."""


class FlowError(RlxError):
    """A flow is wired wrongly; `details["problems"]` lists every problem found."""


class GraphError(RlxError):
    """A graph breaks the rule of an op, or a text form cannot be parsed."""


class FusionError(RlxError):
    """A fusion rule or the fusion pipeline failed."""


class BackendError(RlxError):
    """A backend cannot compile or run a graph."""


class InputError(RlxError):
    """The arguments of a call do not fit the model."""


class PluginError(RlxError):
    """A third-party entry point cannot be loaded."""


class TruncationWarning(UserWarning):
    """`Model.embed` cut texts at the model's length; `texts` are their numbers, from 0."""

    def __init__(self, texts: Sequence[int], of: int, max_length: int) -> None:
        self.texts = tuple(texts)
        super().__init__(f"texts cut at the model's {max_length} tokens: {len(texts)} of {of}")


def raised_at(error: BaseException) -> str:
    """file:line where an error was raised, or the line that Python could not read."""
    import traceback

    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}"
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{last.filename}:{last.lineno}"


def nearest(name: str, known: Iterable[str]) -> str:
    """ "did you mean 'x'?" for the nearest known name, or an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else ""


def printable(text: object, limit: int = 200) -> str:
    """Text from a file made safe for a terminal: control characters escaped, length capped."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))
    return shown if len(shown) <= limit else shown[:limit] + f"… ({len(shown)} characters)"
