"""HF names and layout over GGUF files, against gguf-py's own tables and an independent permutation."""

from __future__ import annotations

import gguf
import gguf_bytes as g
import numpy as np
import pytest
from gguf.constants import MODEL_ARCH_NAMES, MODEL_TENSORS, TENSOR_NAMES

from rlxflow import find_recipe, recipe_names
from rlxflow.dequantize import dequantize
from rlxflow.errors import CorruptFile, MissingTensor, RlxError, ShapeMismatch, UnsupportedFile
from rlxflow.weights.gguf import GgufFile
from rlxflow.weights.names import GgufModel, GgufName, hf_row, unpermute_rows
from rlxflow.weights.source import WeightSource

PARTS = [part for name in recipe_names() if (part := find_recipe(name).gguf)]
GGUF_NAMES = {architecture: part.names for part in PARTS for architecture in part.architectures}
ENUM = {name: arch for arch, name in MODEL_ARCH_NAMES.items()}
ARCHITECTURES = list(GGUF_NAMES)
# gguf-py lists these for the architectures too; they belong to mixtures of experts, classifiers, fused
# QKV relatives, or are rotary tables.
NOT_MAPPED = {
    "llama": {"rope_freqs", "attn_rot_embd", "ffn_gate_inp", "ffn_gate_exps", "ffn_down_exps", "ffn_up_exps"},
    "qwen2": {"rope_freqs"},
    "qwen3": {"rope_freqs"},
    "phi3": {"attn_q", "attn_k", "attn_v", "rope_factors_long", "rope_factors_short"},
    "smollm3": {"rope_freqs", "attn_rot_embd"},
    "nomic-bert": {"output_norm", "position_embd"},
    "bert": {"output_norm", "attn_qkv", "cls", "cls.output"},
    "modern-bert": {"cls", "cls.norm", "cls.output"},
}


def listed_names(architecture: str) -> set[str]:
    return {TENSOR_NAMES[t].replace("blk.{bid}.", "") for t in MODEL_TENSORS[ENUM[architecture]]}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_rows_agree_with_gguf_py(architecture):
    table = gguf.get_tensor_name_map(ENUM[architecture], 12)
    rows = GGUF_NAMES[architecture]
    assert len({row.hf for row in rows}) == len({row.gguf for row in rows}) == len(rows)
    for row in rows:
        for layer in ("0", "11"):
            hf, gguf_name = row.hf.replace("{i}", layer), row.gguf.replace("{i}", layer)
            if hf != "lm_head.weight" or "output" in listed_names(architecture):
                assert table.get_name(hf, try_suffixes=(".weight", ".bias")) == gguf_name
            found = hf_row(GGUF_NAMES[architecture], gguf_name)
            assert (found.hf, found.gguf, found.heads) == (hf, gguf_name, row.heads)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_no_tensor_of_the_architecture_is_forgotten(architecture):
    known = {row.gguf.rpartition(".")[0].replace("blk.{i}.", "") for row in GGUF_NAMES[architecture]}
    listed = listed_names(architecture)
    assert listed - known == NOT_MAPPED.get(architecture, set())
    # gguf-py's qwen tables leave biases to the suffix; every name of ours is one it lists, but for the head
    # of families whose heads are tied in every published model.
    assert known - {"output"} <= listed


@pytest.mark.parametrize("name", ["blk.00.attn_q.weight", "blk.-1.attn_q.weight", "blk.x.attn_q.weight",
                                  "blk.٣.attn_q.weight", "blk.0.attn_q.weight\n", "xblk.0.attn_q.weight",
                                  "blk.0.attn_q", "blk.9999999.attn_q.weight"])  # fmt: skip
def test_names_that_are_not_in_the_table(name):
    assert hf_row(GGUF_NAMES["llama"], name) is None


def permuted_by_index(rows: np.ndarray, num_heads: int) -> np.ndarray:
    """What the converter does, row by row: in each head, HF row s·d + j becomes GGUF row 2·j + s."""
    out = np.empty_like(rows)
    head_dim = len(rows) // num_heads
    half = head_dim // 2
    for head in range(num_heads):
        for side in range(2):
            for j in range(half):
                out[head * head_dim + 2 * j + side] = rows[head * head_dim + side * half + j]
    return out


@pytest.mark.parametrize("heads, head_dim", [(1, 2), (1, 8), (3, 4), (9, 64), (4, 6)])
def test_unpermute_undoes_the_converter(heads, head_dim):
    rows = np.random.default_rng(0).normal(size=(heads * head_dim, 5)).astype(np.float32)
    stored = permuted_by_index(rows, heads)
    assert np.array_equal(unpermute_rows(stored, heads), rows)
    assert np.array_equal(unpermute_rows(stored[:, 0].copy(), heads), rows[:, 0])
    if head_dim > 2:
        assert not np.array_equal(stored, rows)


LLAMA_SHAPES = {
    "token_embd.weight": (5, 32),
    "output_norm.weight": (32,),
    "blk.0.attn_q.weight": (24, 32),
    "blk.0.attn_q.bias": (24,),
    "blk.0.attn_k.weight": (8, 32),
    "blk.0.attn_k.bias": (8,),
    "blk.0.attn_v.weight": (8, 32),
    "blk.0.attn_output.weight": (32, 32),
    "rope_freqs.weight": (2,),
    "blk.0.extra.weight": (3,),
}


def written(path, architecture: str, kind: str = "f32") -> dict[str, np.ndarray]:
    """LLAMA_SHAPES in `kind` (vectors in f32); the values as HF would hold them, by GGUF name."""
    rng = np.random.default_rng(4)
    writer = gguf.GGUFWriter(path, architecture)
    values = {name: rng.normal(size=shape).astype(np.float32) for name, shape in LLAMA_SHAPES.items()}
    for name, array in values.items():
        stored = array
        if architecture == "llama" and ".attn_q." in name:
            stored = permuted_by_index(array, 6)
        elif architecture == "llama" and ".attn_k." in name:
            stored = permuted_by_index(array, 2)
        if kind != "f32" and array.ndim > 1:
            quant = gguf.GGMLQuantizationType[kind.upper()]
            writer.add_tensor(name, gguf.quants.quantize(stored, quant), raw_dtype=quant)
        else:
            writer.add_tensor(name, stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return values


@pytest.mark.parametrize("kind", ["f32", "q8_0", "q4_1"])
@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_model_view(tmp_path, architecture, kind):
    path = tmp_path / "m.gguf"
    values = written(path, architecture, kind)
    model = GgufModel(GgufFile(path), GGUF_NAMES[architecture], num_heads=6, num_kv_heads=2)
    assert isinstance(model, WeightSource)
    layer = "model.layers.0.self_attn"
    assert set(model.keys()) == {
        "model.embed_tokens.weight", "model.norm.weight", f"{layer}.q_proj.weight", f"{layer}.q_proj.bias",
        f"{layer}.k_proj.weight", f"{layer}.k_proj.bias", f"{layer}.v_proj.weight", f"{layer}.o_proj.weight",
        "blk.0.extra.weight",
    }  # fmt: skip
    for hf, name in [
        (f"{layer}.{x}_proj.{part}", f"blk.0.attn_{x}.{part}") for x in "qk" for part in ("weight", "bias")
    ]:
        info, data = model.info(hf), model.read(hf)
        expected = values[name]
        assert (info.key, info.shape) == (hf, expected.shape)
        assert data.flags.c_contiguous
        if info.dtype.packed:
            assert info.dtype.name == kind
            data = dequantize(info.dtype, data)
            quant = gguf.GGMLQuantizationType[kind.upper()]
            expected = gguf.quants.dequantize(gguf.quants.quantize(expected, quant), quant)
        assert np.array_equal(data, expected)


def view(tmp_path, tensors: list[bytes], data: int = 4096) -> GgufModel:
    file = GgufFile(g.write(tmp_path, g.build(tensors=tensors, data=bytes(data))))
    return GgufModel(file, GGUF_NAMES["llama"], num_heads=4, num_kv_heads=2)


def test_rows_that_do_not_divide_into_heads(tmp_path):
    for dims in ([8, 12], [8, 6], []):
        model = view(tmp_path, [g.tensor("blk.0.attn_q.weight", dims)])
        for act in (model.info, model.read):
            with pytest.raises(ShapeMismatch) as caught:
                act("model.layers.0.self_attn.q_proj.weight")
            assert caught.value.code == "RLX-W048" and "head counts" in caught.value.hint


def test_packed_vector_cannot_be_permuted(tmp_path):
    model = view(tmp_path, [g.tensor("blk.0.attn_q.bias", [32], g.TYPE_Q4_0)])
    with pytest.raises(UnsupportedFile) as caught:
        model.info("model.layers.0.self_attn.q_proj.bias")
    assert caught.value.code == "RLX-W048" and "F32" in caught.value.hint


def test_what_the_converter_added_is_taken_off(tmp_path):
    rows = (GgufName("norm.weight", "output_norm.weight", added=1.0),)
    values = np.array([1.0, 0.25, -3.0, 1.0], np.float32)
    entries = [g.tensor("output_norm.weight", [4]), g.tensor("blk.0.ffn_norm.weight", [32], g.TYPE_Q4_0, 32)]
    content = g.build(tensors=entries, data=values.tobytes() + bytes(16 + 18))
    file = GgufFile(g.write(tmp_path, content))
    model = GgufModel(file, rows, num_heads=4, num_kv_heads=2)
    assert model.read("norm.weight").tolist() == [0.0, -0.75, -4.0, 0.0]
    packed = (GgufName("norm.weight", "blk.0.ffn_norm.weight", added=1.0),)
    with pytest.raises(UnsupportedFile) as caught:
        GgufModel(file, packed, num_heads=4, num_kv_heads=2).read("norm.weight")
    assert caught.value.code == "RLX-W048" and "F32" in caught.value.hint


def test_G38_unreadable_type_is_refused_when_planned(tmp_path):
    model = view(tmp_path, [g.tensor("token_embd.weight", [256, 2], g.TYPE_IQ2_XXS)])
    assert list(model.keys()) == ["model.embed_tokens.weight"]
    with pytest.raises(UnsupportedFile, match=r"'token_embd\.weight' is iq2_xxs"):
        model.info("model.embed_tokens.weight")


def test_one_parameter_under_both_names(tmp_path):
    entries = [g.tensor("output_norm.weight", [8]), g.tensor("model.norm.weight", [8], offset=32)]
    with pytest.raises(CorruptFile) as caught:
        view(tmp_path, entries)
    assert caught.value.code == "RLX-W045" and "GGUF names only" in caught.value.hint


def test_unknown_key(tmp_path):
    model = view(tmp_path, [g.tensor("token_embd.weight", [8, 2])])
    for key in ("lm_head.weight", "token_embd.weight"):
        with pytest.raises(MissingTensor) as caught:
            model.read(key)
        assert caught.value.code == "RLX-W002"
    assert isinstance(caught.value, RlxError)
