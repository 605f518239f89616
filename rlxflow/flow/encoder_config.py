"""The config fields that BERT, RoBERTa, ViT and their kin share, and those with rotary positions."""

from __future__ import annotations

from typing import Any, Self

from pydantic import model_validator

from rlxflow.errors import ConfigError
from rlxflow.flow.config import Eps, LayerCount, RecipeConfig, Size, activation
from rlxflow.flow.rope_config import RopeConfig, rope_config
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


class RotaryEncoderConfig(EncoderConfig):
    """Adds what text encoders with rotary positions have."""

    vocab_size: Size
    intermediate_size: Size
    max_position_embeddings: Size

    def rope_of(
        self, rope_theta: float | None, rope_parameters: dict[str, Any] | None, default_theta: float
    ) -> RopeConfig:
        """The rotary settings from both spellings, see `rope_config`."""
        return rope_config(
            head_dim=self.head_size,
            rope_theta=rope_theta,
            rope_parameters=rope_parameters,
            max_position_embeddings=self.max_position_embeddings,
            default_theta=default_theta,
        )
