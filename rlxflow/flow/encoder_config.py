"""The config fields that BERT, RoBERTa, ViT and their kin share."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from rlxflow.errors import ConfigError
from rlxflow.flow.config import Eps, LayerCount, RecipeConfig, Size, activation
from rlxflow.ops.activation import Activation


class EncoderConfig(RecipeConfig):
    """Sizes of an encoder whose heads share its width equally, with Hugging Face's names."""

    hidden_size: Size
    num_hidden_layers: LayerCount
    num_attention_heads: Size
    hidden_act: str = "gelu"
    layer_norm_eps: Eps = 1e-12

    @property
    def head_size(self) -> int:
        return self.hidden_size // self.num_attention_heads

    @property
    def activation(self) -> Activation:
        return activation(self.hidden_act)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.hidden_size % self.num_attention_heads:
            raise ConfigError(
                f"{self.num_attention_heads} attention heads do not divide hidden_size {self.hidden_size}",
                code="RLX-C010",
                hint="correct the field, or download the file again",
            )
        _ = self.activation  # raises for one that we do not have
        return self
