"""Saving a loaded model as a Hugging Face directory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rlxflow.errors import InputError
from rlxflow.runtime.model_files import GgufModelFiles
from rlxflow.weights.export import config_text, save_checkpoint

if TYPE_CHECKING:
    from rlxflow.runtime.model import Model


def save(model: Model, directory: Path) -> Path:
    """What `Model.save` does.

    From a directory every stored tensor is written, those that the model does not read included. From a GGUF
    file the model's own tensors are, with a config.json made from the metadata, and its tokenizer.
    """
    files = model.files
    if files is None:
        raise InputError(
            "this model was not loaded from files, so there is no checkpoint to save",
            code="RLX-R072",
            where=model.name,
            hint="use the arrays it was built from, or load it with rlxflow.load",
        )
    if not isinstance(files, GgufModelFiles):
        return save_checkpoint(directory, files.source, files.source.keys(), {}, files.path)
    texts = {"config.json": config_text(files.config)}
    if model.tokenizer is not None:
        texts["tokenizer.json"] = model.tokenizer.backend.to_str()
    planned = dict.fromkeys(t.key for t in model.built.plan.tensors.values() if t is not None)
    return save_checkpoint(directory, files.source, planned, texts)
