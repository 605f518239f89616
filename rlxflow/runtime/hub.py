"""What a user may pass as a model: a directory, a GGUF file, or a hub id that is in the local cache."""

from __future__ import annotations

import os
import re
from pathlib import Path

from rlxflow.errors import WeightsError, printable

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def resolve(path: str | os.PathLike[str]) -> Path:
    """The local file or directory meant by `path`; raises `WeightsError` where there is none.

    `org/name` that is no local path is looked up in the Hugging Face cache (`HF_HUB_CACHE`, `HF_HOME`);
    nothing is downloaded.
    """
    try:
        text = os.fsdecode(path)
        local = Path(text).expanduser()
        if text and local.exists():
            return local
    except (OSError, ValueError, TypeError, RuntimeError) as error:  # RuntimeError: no such user for ~user
        raise _no_path(path, getattr(error, "strerror", None) or str(error)) from error
    if _HUB_ID.fullmatch(text):
        snapshot = _snapshot(text)
        if snapshot is not None:
            return snapshot
        raise WeightsError(
            f"{text!r} is neither a local path nor in the Hugging Face cache",
            code="RLX-W004",
            where=printable(cache_folder()),
            hint=f"fetch it once: hf download {text}",
        )
    raise _no_path(text, "no such file or directory")


def _no_path(path: object, why: str) -> WeightsError:
    hint = "give a model directory, a .gguf file, or a hub id such as sentence-transformers/all-MiniLM-L6-v2"
    shown = printable(path)
    return WeightsError(f"{shown or repr(path)}: {printable(why)}", code="RLX-W001", where=shown, hint=hint)


def cache_folder() -> Path:
    if os.environ.get("HF_HUB_CACHE"):
        return Path(os.environ["HF_HUB_CACHE"])
    home = os.environ.get("HF_HOME") or os.path.expanduser("~/.cache/huggingface")  # noqa: PTH111 (never fails)
    return Path(home) / "hub"


def _snapshot(hub_id: str) -> Path | None:
    """The snapshot that `main` points to, or the only one there is."""
    repo = cache_folder() / ("models--" + hub_id.replace("/", "--"))
    reference = repo / "refs" / "main"
    try:
        if reference.is_file():
            revision = reference.read_text("utf-8")[:100].strip()
            if re.fullmatch(r"[0-9a-f]{40}", revision) and (repo / "snapshots" / revision).is_dir():
                return repo / "snapshots" / revision
        snapshots = [d for d in (repo / "snapshots").iterdir() if d.is_dir()]
    except OSError:
        return None
    return snapshots[0] if len(snapshots) == 1 else None
