"""Weights that a decoder wants, and headers of checkpoints that hold them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from rlxflow.dtypes import DType, f32
from rlxflow.errors import WeightsError
from rlxflow.weights.plan import WeightSpec
from rlxflow.weights.source import TensorInfo, missing

EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"


class Headers:
    """A source of headers alone: reading any data fails the test."""

    path = "model.safetensors"

    def __init__(self, shapes: dict[str, tuple[int, ...]], dtype: DType = f32) -> None:
        self.shapes, self.dtype = shapes, dtype

    def keys(self) -> Iterable[str]:
        return self.shapes.keys()

    def info(self, key: str) -> TensorInfo:
        if key not in self.shapes:
            raise missing(key, self.shapes, "headers")
        return TensorInfo(key, self.dtype, self.shapes[key])

    def read(self, key: str) -> Any:
        raise AssertionError(f"{key} was read")


def decoder(layers: int = 4, width: int = 8, tied: bool = True) -> list[WeightSpec]:
    """The wishes of a small decoder."""
    specs = [WeightSpec(EMBED, (32, width)), WeightSpec("model.norm.weight", (width,))]
    for i in range(layers):
        at = f"model.layers.{i}"
        specs += [
            WeightSpec(f"{at}.self_attn.q_proj.weight", (width, width)),
            WeightSpec(f"{at}.mlp.down_proj.weight", (width, 2 * width)),
            WeightSpec(f"{at}.input_layernorm.weight", (width,)),
        ]
    return [*specs, WeightSpec(HEAD, (32, width), tied_to=EMBED if tied else None)]


def stored(specs: Iterable[WeightSpec], rename: Callable[[str], str | None] = str) -> Headers:
    """Headers of exactly these weights; `rename` gives the stored key, or None to leave it out."""
    return Headers({new: spec.shape for spec in specs if (new := rename(spec.key))})


def but(*keys: str) -> Callable[[str], str | None]:
    return lambda key: None if key in keys else key


def text_of(error: WeightsError) -> str:
    assert len(str(error).splitlines()) <= 24
    return str(error)
