"""Calling a loaded model with arrays of every kind: what works, and what is refused with code and hint.

Ids start with the kind: R1 sizes, R2 token ids, R3 masks, R4 and R5 values, R6 sizes that disagree,
R7 layouts, R8 denormals, R9 memory, R11 threads and forks.
"""

from __future__ import annotations

import multiprocessing
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import goldens
import numpy as np
import pytest
from model_files import Array, model_inputs, run, write_golden, write_model

import rlxflow
from rlxflow.backends.reference.backend import ReferenceBackend
from rlxflow.profile.load import load_profile

BERT, LLAMA = goldens.hf_case("bert", "plain"), goldens.hf_case("llama", "gqa_tied")


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> rlxflow.Model:
    return rlxflow.load(write_golden(tmp_path_factory.mktemp("bert"), BERT))


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> rlxflow.Model:
    return rlxflow.load(write_golden(tmp_path_factory.mktemp("llama"), LLAMA))


IDS = np.array([[5, 6, 7]])
ONES = np.ones((1, 3), np.int64)

# (inputs, code, part of the hint) for both models; vocabularies have 101 and 113 rows
BOTH: dict[str, tuple[dict[str, Any], str, str]] = {
    "R1-no-input": ({}, "RLX-R002", "pass input_ids"),
    "R1-none": ({"input_ids": None}, "RLX-R002", "pass input_ids"),
    "R1-one-axis": ({"input_ids": [5, 6, 7]}, "RLX-R012", "wrap one sequence"),
    "R1-no-axis": ({"input_ids": 5}, "RLX-R012", "[B,S]"),
    "R1-three-axes": ({"input_ids": [[[5]]]}, "RLX-R012", "[B,S]"),
    "R1-empty-list": ({"input_ids": []}, "RLX-R012", "wrap one sequence"),
    "R1-ragged": ({"input_ids": [[5, 6], [7]]}, "RLX-R010", "attention_mask"),
    "R2-negative": ({"input_ids": [[5, -1]]}, "RLX-R001", "ids run from 0"),
    "R2-beyond": ({"input_ids": [[5, 113]]}, "RLX-R001", "ids run from 0"),
    "R2-far-beyond": ({"input_ids": [[5, 2**40]]}, "RLX-R001", "ids run from 0"),
    "R2-uint64": ({"input_ids": np.array([[2**63 + 5]], np.uint64)}, "RLX-R017", "i64"),
    "R2-larger-than-int64": ({"input_ids": [[2**70]]}, "RLX-R011", "integers"),
    "R2-float": ({"input_ids": [[5.0, 6.0]]}, "RLX-R011", "cast ids to integers"),
    "R2-bool": ({"input_ids": [[True, False]]}, "RLX-R011", "cast ids to integers"),
    "R2-text": ({"input_ids": [["five"]]}, "RLX-R011", "integers"),
    "R2-string": ({"input_ids": "five"}, "RLX-R011", "integers"),
    "R2-none-inside": ({"input_ids": [[5, None]]}, "RLX-R011", "integers"),
    "R2-complex": ({"input_ids": [[5j]]}, "RLX-R011", "integers"),
    "R3-short": ({"input_ids": IDS, "attention_mask": [[1, 1]]}, "RLX-R004", "agree|equal"),
    "R3-other-batch": ({"input_ids": IDS, "attention_mask": [[1, 1, 1]] * 2}, "RLX-R004", "agree|equal"),
    "R3-one-axis": ({"input_ids": IDS, "attention_mask": [1, 1, 1]}, "RLX-R012", "wrap one"),
    "R3-float": ({"input_ids": IDS, "attention_mask": [[1.0, 1.0, 0.0]]}, "RLX-R011", "0 = padding"),
    "R3-additive": ({"input_ids": IDS, "attention_mask": [[0, 0, -10000]]}, "RLX-R017", "0 = padding"),
    "R3-counts": ({"input_ids": IDS, "attention_mask": [[1, 2, 2]]}, "RLX-R017", "0 = padding"),
    "R3-unknown-input": ({"input_ids": IDS, "attention_mas": ONES}, "RLX-R006", "'attention_mask'"),
    "R3-hf-positions": ({"input_ids": IDS, "position_ids": ONES}, "RLX-R006", "input"),
    "R6-outputs-of-no-names": ({"input_ids": IDS, "outputs": 5}, "RLX-R005", "list of names"),
    "R6-output-none": ({"input_ids": IDS, "outputs": [None]}, "RLX-R005", "last_hidden_state|logits"),
    "R6-unknown-output": ({"input_ids": IDS, "outputs": ["logit"]}, "RLX-R005", "last_hidden_state|logits"),
}
BERT_ONLY: dict[str, tuple[dict[str, Any], str, str]] = {
    "R1-longer-than-positions": ({"input_ids": np.ones((1, 41), int)}, "RLX-R016", "embed"),
    "R1-padded-and-longer": (
        {"input_ids": np.ones((1, 50), int), "attention_mask": np.arange(50)[None] >= 9},
        "RLX-R016",
        "embed",
    ),
    "R2-type-beyond": ({"input_ids": IDS, "token_type_ids": [[0, 1, 2]]}, "RLX-R001", "0 to 1"),
    "R6-types-of-another-length": ({"input_ids": IDS, "token_type_ids": [[0, 1]]}, "RLX-R004", "agree"),
    "R6-lengths": ({"input_ids": IDS, "past_len": [0]}, "RLX-R006", "inputs: input_ids"),
}
LLAMA_ONLY: dict[str, tuple[dict[str, Any], str, str]] = {
    "R3-hole": ({"input_ids": IDS, "attention_mask": [[1, 0, 1]]}, "RLX-R013", "left or the right"),
    "R6-lengths": ({"input_ids": IDS, "past_len": [0]}, "RLX-R006", "inputs: input_ids"),
}


def refuse(model: rlxflow.Model, case: tuple[dict[str, Any], str, str]) -> None:
    arguments, code, hint = case
    with pytest.raises(rlxflow.RlxError) as caught:
        model(**arguments)
    assert caught.value.code == code
    assert any(part in caught.value.hint for part in hint.split("|")), caught.value
    assert caught.value.where, caught.value


def test_R1_the_place_of_an_error_is_the_input_as_declared(bert: rlxflow.Model) -> None:
    with pytest.raises(rlxflow.RlxError) as caught:
        bert(input_ids=[5, 6, 7])
    assert caught.value.where == "input_ids: i64[B,S]"


@pytest.mark.parametrize("case", [*BOTH, *BERT_ONLY])
def test_refused_by_an_encoder(case: str, bert: rlxflow.Model) -> None:
    refuse(bert, {**BOTH, **BERT_ONLY}[case])


@pytest.mark.parametrize("case", [*BOTH, *LLAMA_ONLY])
def test_refused_by_a_decoder(case: str, llama: rlxflow.Model) -> None:
    refuse(llama, {**BOTH, **LLAMA_ONLY}[case])


@pytest.mark.parametrize("given", [IDS, [[5]], "five"])
def test_an_input_without_a_name(given: Any, llama: rlxflow.Model) -> None:
    with pytest.raises(rlxflow.RlxError) as caught:
        llama(given)  # type: ignore[arg-type]
    assert caught.value.code == "RLX-R006" and "input_ids=" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "hint"),
    [("to", "profile="), ("eval", "mode"), ("encode", r"\.embed\("), ("other", "'other'$")],
)
def test_names_of_other_libraries(name: str, hint: str, llama: rlxflow.Model) -> None:
    assert not hasattr(llama, name)
    with pytest.raises(AttributeError, match=hint):
        getattr(llama, name)


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (2, 0)], ids=["R1-nothing", "R1-batch-0", "R1-length-0"])
def test_empty_batches(shape: tuple[int, int], bert: rlxflow.Model, llama: rlxflow.Model) -> None:
    ids = np.zeros(shape, np.int64)
    assert bert(input_ids=ids)["last_hidden_state"].shape == (*shape, 48)
    found = llama(input_ids=ids, outputs=["logits", "last_logits"])
    assert found["logits"].shape == (*shape, 113) and found["last_logits"].shape == (shape[0], 113)
    assert not found["last_logits"].any()


def test_R1_one_token(bert: rlxflow.Model, llama: rlxflow.Model) -> None:
    assert np.isfinite(bert(input_ids=[[5]])["last_hidden_state"]).all()
    assert np.isfinite(llama(input_ids=[[5]])["logits"]).all()


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_R1_a_decoder_takes_its_last_position_and_no_more(backend: str, tmp_path: Path) -> None:
    profile = load_profile("exact", [f"backend.name={backend}"])
    llama = rlxflow.load(write_golden(tmp_path, LLAMA), profile)
    ids = np.ones((1, 65), np.int64)
    assert np.isfinite(llama(input_ids=ids, attention_mask=np.arange(65)[None] > 0)["logits"]).all()
    with pytest.raises(rlxflow.RlxError, match="has 65 tokens, the model takes 64") as caught:
        llama(input_ids=ids)
    assert caught.value.code == "RLX-R016" and caught.value.where == llama.name


def test_R1_dynamic_rope_stretches_by_its_factor(tmp_path: Path) -> None:
    golden = goldens.hf_case("llama", "dynamic_beyond")
    assert rlxflow.load(write_golden(tmp_path, golden)).max_positions == 12 * 3


def test_R1_padding_does_not_count_as_length(bert: rlxflow.Model) -> None:
    ids = np.ones((1, 60), np.int64)
    mask = (np.arange(60) >= 20)[None]
    found = bert(input_ids=ids, attention_mask=mask)["last_hidden_state"]
    assert np.array_equal(found[:, 20:], bert(input_ids=ids[:, :40])["last_hidden_state"])


@pytest.mark.parametrize("golden", [BERT, LLAMA], ids=["encoder", "decoder"])
def test_R3_a_row_without_tokens_is_zero(
    golden: goldens.Golden, bert: rlxflow.Model, llama: rlxflow.Model
) -> None:
    model = bert if golden is BERT else llama
    inputs = model_inputs(golden)
    inputs["attention_mask"][1] = 0
    (output,) = golden.expected
    found = model(**inputs)[output]
    assert not found[1].any()
    assert np.array_equal(found[[0, 2]], run(model, golden)[[0, 2]])


def test_R3_what_lies_under_the_padding_does_not_matter(bert: rlxflow.Model, llama: rlxflow.Model) -> None:
    for model, golden in ((bert, BERT), (llama, LLAMA)):
        inputs = model_inputs(golden)
        inputs["input_ids"][~golden.valid] = -100
        (output,) = golden.expected
        assert np.array_equal(model(**inputs)[output], run(model, golden))


def test_R3_holes_in_an_encoder_mask_are_masked_keys(bert: rlxflow.Model) -> None:
    """A masked token in the middle keeps its position; nobody sees it."""
    ids = np.array([[5, 6, 7, 8, 9]])
    mask = np.array([[1, 1, 0, 1, 1]])
    found = bert(input_ids=ids, attention_mask=mask)["last_hidden_state"]
    ids[0, 2] = 50
    other = bert(input_ids=ids, attention_mask=mask)["last_hidden_state"]
    assert np.array_equal(found[:, mask[0] == 1], other[:, mask[0] == 1])


@pytest.mark.parametrize(
    "value", [np.nan, np.inf, -np.inf, 1e-42], ids=["R4-nan", "R4-inf", "R4-minus-inf", "R8-denormal"]
)
def test_odd_weights_run_without_a_warning(value: float, tmp_path: Any) -> None:
    weights = LLAMA.weights
    weights["model.layers.1.mlp.up_proj.weight"][3, 5] = value
    model = rlxflow.load(write_model(tmp_path, LLAMA.config, weights))
    found = run(model, LLAMA)
    assert np.isfinite(found[LLAMA.valid]).all() == (value == 1e-42)


@pytest.mark.parametrize("golden", [BERT, LLAMA], ids=["R5-layer-norm", "R5-rms-norm"])
def test_large_half_precision_values_do_not_overflow(golden: goldens.Golden, tmp_path: Any) -> None:
    """Norms of values near the largest f16, against the same model in float64."""
    weights = {key: value.astype(np.float16) for key, value in golden.weights.items()}
    for key, value in weights.items():
        if "word_embeddings" in key or "embed_tokens" in key:
            weights[key] = (value.astype(np.float64) * 3e4).astype(np.float16)
    config = {**golden.config, "tie_word_embeddings": False}
    if golden is LLAMA:
        weights["lm_head.weight"] = golden.weights["model.embed_tokens.weight"]
    profile = load_profile("exact", ["fusion.policy=fusable"])  # primitives only: what a backend is given
    model = rlxflow.load(write_model(tmp_path, config, weights), profile)
    wide = ReferenceBackend(np.float64).compile(model.graph, model.built.weights, model.profile)
    oracle = rlxflow.Model(model.name, model.built, model.config)
    oracle.__dict__["executable"] = wide
    assert golden.error(run(model, golden)) > 0.01
    assert goldens.error(run(model, golden), run(oracle, golden), golden.valid) <= 1e-5


LAYOUTS = {
    "R7-list": lambda a: a.tolist(),
    "R7-int32": lambda a: a.astype(np.int32),
    "R7-uint8": lambda a: a.astype(np.uint8),
    "R7-uint64": lambda a: a.astype(np.uint64),
    "R7-big-endian": lambda a: a.astype(">i4"),
    "R7-fortran": lambda a: np.asfortranarray(a),
    "R7-negative-stride": lambda a: np.ascontiguousarray(a[:, ::-1])[:, ::-1],
    "R7-every-second": lambda a: np.repeat(a, 2, axis=1)[:, ::2],
    "R7-read-only": lambda a: np.lib.stride_tricks.as_strided(a, writeable=False),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_give_the_same_bits(layout: str, bert: rlxflow.Model, llama: rlxflow.Model) -> None:
    for model, golden in ((bert, BERT), (llama, LLAMA)):
        inputs = {key: LAYOUTS[layout](value) for key, value in model_inputs(golden).items()}
        (output,) = golden.expected
        assert np.array_equal(model(**inputs)[output], run(model, golden))


def test_inputs_are_not_written_to_and_results_are_the_callers(llama: rlxflow.Model) -> None:
    inputs = model_inputs(LLAMA)
    before = {key: value.copy() for key, value in inputs.items()}
    first = llama(**inputs)["logits"]
    kept = first.copy()
    first[:] = 7
    assert np.array_equal(llama(**inputs)["logits"], kept)
    assert all(np.array_equal(inputs[key], before[key]) for key in inputs)


def test_R9_a_call_larger_than_memory_is_refused(
    llama: rlxflow.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rlxflow.runtime.inputs.available_memory", lambda: 80 << 20)
    ids = np.zeros((8192, 64), np.int64)
    with pytest.raises(rlxflow.RlxError) as caught:
        llama(input_ids=ids)
    assert caught.value.code == "RLX-R015" and "smaller batch" in caught.value.hint


def test_R11_threads_share_a_model(bert: rlxflow.Model, llama: rlxflow.Model) -> None:
    jobs = [(bert, BERT), (llama, LLAMA)] * 12
    expected = {id(model): run(model, golden) for model, golden in jobs[:2]}
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(lambda job: run(*job), jobs))
    finally:
        sys.setswitchinterval(0.005)
    for (model, _), result in zip(jobs, results, strict=True):
        assert np.array_equal(result, expected[id(model)])


def _in_child(model: rlxflow.Model, golden: goldens.Golden, pipe: Any) -> None:
    pipe.send_bytes(run(model, golden).tobytes())


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_R11_a_model_works_after_a_fork(llama: rlxflow.Model) -> None:
    expected: Array = run(llama, LLAMA)
    receive, send = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_in_child, args=(llama, LLAMA, send))
    process.start()
    assert receive.poll(30)
    assert receive.recv_bytes() == expected.tobytes()
    process.join(30)
    assert process.exitcode == 0


def test_one_output_by_its_name(llama: rlxflow.Model) -> None:
    assert set(llama(input_ids=IDS, outputs="last_logits")) == {"last_logits"}
    assert set(llama(input_ids=IDS)) == {"logits"}
