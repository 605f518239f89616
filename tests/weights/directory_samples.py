"""Model directories, in one file and sharded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

INDEX = "model.safetensors.index.json"
ONE, TWO = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


def save(path: Path, *keys: str, dtype: str = "f4") -> None:
    """A file whose tensors are filled with the length of their key."""
    path.parent.mkdir(parents=True, exist_ok=True)
    safetensors.numpy.save_file({k: np.full((2, 3), len(k), dtype) for k in keys}, path)


def write_index(directory: Path, weight_map: Any, **more: Any) -> None:
    (directory / INDEX).write_text(json.dumps({"weight_map": weight_map, **more}))


def sharded(directory: Path, **more: Any) -> Path:
    """A good directory: `a` and `bb` in one shard, `ccc` in another."""
    save(directory / ONE, "a", "bb")
    save(directory / TWO, "ccc")
    write_index(directory, {"a": ONE, "bb": ONE, "ccc": TWO}, **more)
    return directory


def contents(source: Any) -> dict[str, float]:
    return {key: float(source.read(key)[0, 0]) for key in source.keys()}  # noqa: SIM118


# -- the cache of huggingface_hub


def hub_cache(root: Path, hops: int) -> Path:
    """A snapshot whose file links to the repo's blobs and, with two hops, on to the cache's shared blobs."""
    repo = root / "models--org--name"
    snapshot = repo / "snapshots" / "0123abc"
    snapshot.mkdir(parents=True)
    (repo / "blobs").mkdir()
    blob = repo / "blobs" / "feed"
    if hops == 2:
        save(root / "blobs" / "fe" / "feed", "a")
        blob.symlink_to("../../blobs/fe/feed")
    else:
        save(blob, "a")
    (snapshot / "model.safetensors").symlink_to("../../blobs/feed")
    return snapshot
