"""Packed linear layers out of a GGUF file, against the gguf package."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
from goldens import gguf_case, gguf_names

import rlxflow
from rlxflow import GgufPackedParams, MapWeights, RlxError
from rlxflow.weights.gguf import GgufFile

PLAIN = {"f32", "f16", "bf16"}
PACKED = [name for name in gguf_names() if set(gguf_case(name).golden.tags) - PLAIN]


@pytest.mark.parametrize("name", PACKED)
def test_every_packed_matrix_is_there_and_means_what_gguf_says(name: str) -> None:
    path = gguf_case(name).path
    params = GgufPackedParams.from_source(GgufFile(path))
    read = {t.name: t for t in gguf.GGUFReader(path).tensors}
    plain = (gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16, gguf.GGMLQuantizationType.BF16)
    packed = {n for n, t in read.items() if t.tensor_type not in plain and len(t.shape) == 2}
    assert set(params.linears) == packed and packed
    for key, linear in params.linears.items():
        expected = gguf.dequantize(read[key].data, read[key].tensor_type)
        assert (linear.out_dim, linear.in_dim) == expected.shape
        np.testing.assert_allclose(linear.dequantized(), expected, rtol=1e-6, atol=1e-7)
        bias = key.replace(".weight", ".bias")
        assert (linear.bias is not None) == (bias in read)


def test_a_missing_layer_names_the_nearest() -> None:
    params = GgufPackedParams.from_source(MapWeights({"w": np.ones((2, 2), np.float32)}))
    assert not params.linears
    with pytest.raises(RlxError) as caught:
        params.get_linear("blk.0.attn_q.weight")
    assert caught.value.code == "RLX-W002"


def test_the_weights_of_a_loaded_model_serve_too() -> None:
    model = rlxflow.load(gguf_case(PACKED[0]).path)
    params = GgufPackedParams.from_source(model.built.weights)
    assert params.linears and all(key.endswith(".weight") for key in params.linears)
