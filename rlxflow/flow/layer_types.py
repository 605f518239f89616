"""Which layers attend to all tokens and which to near ones, as a config lists them."""

from __future__ import annotations

from typing import Literal, Self, TypeAlias

from pydantic import model_validator

from rlxflow.errors import ConfigError
from rlxflow.flow.config import LayerCount, RecipeConfig

LayerType: TypeAlias = Literal["full_attention", "sliding_attention"]


class LayerTypesConfig(RecipeConfig):
    """Adds `layer_types`, of which there must be one per layer."""

    num_hidden_layers: LayerCount
    layer_types: list[LayerType] | None = None

    @model_validator(mode="after")
    def _one_type_per_layer(self) -> Self:
        if self.layer_types is not None and len(self.layer_types) != self.num_hidden_layers:
            message = f"layer_types has {len(self.layer_types)} entries for {self.num_hidden_layers} layers"
            raise ConfigError(message, code="RLX-C010", hint="correct the field, or download the file again")
        return self
