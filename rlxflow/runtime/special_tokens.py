"""Special tokens and stop ids, from the JSON files that lie beside a tokenizer.json."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rlxflow.errors import TokenizerError, printable
from rlxflow.quick_dataclass import dataclass
from rlxflow.weights.json_file import read_json

_NAMES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")


@dataclass(frozen=True)
class SpecialTokens:
    """The spelling of each special token that a model names, and the ids at which generation ends.

    `stop_ids` is empty where no file names any; then the end-of-text token alone stops.
    """

    bos: str | None = None
    eos: str | None = None
    unk: str | None = None
    sep: str | None = None
    pad: str | None = None
    cls: str | None = None
    mask: str | None = None
    stop_ids: tuple[int, ...] = ()


def read_special_tokens(directory: Path, id_to_token: Callable[[int], str | None]) -> SpecialTokens:
    """Special tokens of a Hugging Face model directory.

    A spelling is taken from tokenizer_config.json, else special_tokens_map.json, else through the ids in
    generation_config.json and config.json. Stop ids are generation_config.json's `eos_token_id`, else
    config.json's, as HF generation reads them. Absent files are no error; a malformed one raises
    `TokenizerError` T003.
    """
    spelled = [_read(directory / name) for name in ("tokenizer_config.json", "special_tokens_map.json")]
    numbered = [_read(directory / name) for name in ("generation_config.json", "config.json")]
    tokens: dict[str, str] = {}
    for name in _NAMES:
        found = [_spelling(content, f"{name}_token", path) for path, content in spelled]
        for path, content in numbered:
            found += [id_to_token(token_id) for token_id in _ids(content, f"{name}_token_id", path)[:1]]
        token = next((token for token in found if token is not None), None)
        if token is not None:
            tokens[name] = token
    stops = next((ids for path, content in numbered if (ids := _ids(content, "eos_token_id", path))), ())
    return SpecialTokens(**tokens, stop_ids=stops)


def _read(path: Path) -> tuple[Path, Mapping[str, Any]]:
    if not path.exists():
        return path, {}
    content = read_json(path, what="tokenizer settings", error=TokenizerError, code="RLX-T003")
    if not isinstance(content, Mapping):
        raise _wrong(path, "is not an object")
    return path, content


def _spelling(content: Mapping[str, Any], key: str, path: Path) -> str | None:
    """A token written as a string, or as an object with its `content`."""
    value = content.get(key)
    if isinstance(value, Mapping):
        value = value.get("content")
    if value is not None and not isinstance(value, str):
        raise _wrong(path, f"has {key} = {printable(value, 40)}, which is not a token")
    return value


def _ids(content: Mapping[str, Any], key: str, path: Path) -> tuple[int, ...]:
    """One id, a list of ids, or nothing; -1 stands for nothing in some configs."""
    value = content.get(key)
    values = value if isinstance(value, list) else [value]
    ids = [item for item in values if item not in (None, -1)]
    for item in ids:
        if isinstance(item, bool) or not isinstance(item, int) or not 0 <= item < 2**32:
            raise _wrong(path, f"has {key} = {printable(value, 40)}, which is not a token id")
    return tuple(ids)


def _wrong(path: Path, problem: str) -> TokenizerError:
    return TokenizerError(
        f"{path.name} {problem}",
        code="RLX-T003",
        where=printable(path),
        hint="the file is damaged or was edited by hand; download it again",
    )
