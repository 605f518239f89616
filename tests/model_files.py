"""Model directories on disk, written with the safetensors library."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import goldens
import ml_dtypes  # noqa: F401 (safetensors looks bfloat16 up in NumPy's registry)
import numpy as np
from safetensors.numpy import save_file

Array = np.ndarray[Any, np.dtype[Any]]


def write_json(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def write_model(
    folder: Path, config: Mapping[str, Any], weights: Mapping[str, Array], shards: int = 1
) -> Path:
    """`folder` with config.json and the weights, in one file or in `shards` parts with an index."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", config)
    arrays = {key: np.ascontiguousarray(value) for key, value in weights.items()}
    if shards == 1:
        save_file(arrays, folder / "model.safetensors")
        return folder
    keys = sorted(arrays)
    weight_map = {}
    for part in range(shards):
        name = f"model-{part + 1:05}-of-{shards:05}.safetensors"
        save_file({key: arrays[key] for key in keys[part::shards]}, folder / name)
        weight_map |= dict.fromkeys(keys[part::shards], name)
    size = sum(array.nbytes for array in arrays.values())
    write_json(
        folder / "model.safetensors.index.json",
        {"metadata": {"total_size": size}, "weight_map": weight_map},
    )
    return folder


def write_golden(folder: Path, golden: goldens.Golden) -> Path:
    """The directory of a golden model."""
    return write_model(folder, golden.config, golden.weights)


def model_inputs(golden: goldens.Golden) -> dict[str, Array]:
    """What a caller passes: everything but the positions, which the model derives from the mask."""
    return {name: array.copy() for name, array in golden.inputs.items() if name != "position_ids"}


def run(model: Any, golden: goldens.Golden) -> Array:
    """The model's output of the golden's name on the golden's batch."""
    (name,) = golden.expected
    return model(**model_inputs(golden))[name]
