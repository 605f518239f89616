"""inspect, check, build, profile, list and doctor."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import goldens
import numpy as np
import pytest
from cli_models import Result, write_sparse_llama
from model_files import write_json
from safetensors.numpy import load_file, save_file

import rlxflow
from rlxflow.dtypes import DTYPES
from rlxflow.errors import RlxError
from rlxflow.inspect.catalog import CATALOG
from rlxflow.inspect.inspection import inspect_model
from rlxflow.inspect.tensors import group_tensors
from rlxflow.ir.op import OPS
from rlxflow.ir.text import parse_graph
from rlxflow.profile import preset_names
from rlxflow.weights.gguf import GgufFile

Cli = Callable[..., Result]


def test_inspect_shows_a_model(cli: Cli, llama: str) -> None:
    shown = cli("inspect", llama)
    assert (shown.code, shown.err) == (0, "")
    golden = goldens.hf_case("llama", "gqa_tied")
    parameters = sum(int(np.prod(shape)) for shape in golden.shapes.values())
    for text in (
        *("recipe      llama", "rope        base 300  rotary_dim 12  default", "tokenizer   tokenizer.json"),
        *("model.layers.[0-1].self_attn.q_proj.weight", "tied        lm_head.weight", "1 *.safetensors"),
        f"{parameters:,} parameters",
        f"{2 * 2 * 2 * 12 * 4} bytes per token",  # 2 layers, K and V, 2 heads of 12, f32
    ):
        assert text in shown.out


def test_inspect_names_the_faster_profile(cli: Cli, bert: str, llama: str) -> None:
    assert "exact, trades nothing; faster: --profile encoder\n" in cli("inspect", bert).out
    assert "exact, trades nothing; faster: --profile decode\n" in cli("inspect", llama).out
    assert "faster" not in cli("inspect", llama, "--profile", "decode").out


def test_inspect_json_has_stable_keys(cli: Cli, bert: str) -> None:
    data = cli("inspect", bert, "--json").data
    assert list(data) == [
        *("path", "files", "recipe", "config", "rope", "tensors", "unreadable", "parameters", "nbytes"),
        *("memory", "report", "tokenizer", "embedding", "profile", "errors"),
    ]
    shapes = goldens.hf_case("bert", "plain").shapes
    assert data["parameters"] == sum(int(np.prod(shape)) for shape in shapes.values())
    assert data["nbytes"] == 4 * data["parameters"]
    assert sum(group["count"] for group in data["tensors"]) == len(shapes)
    assert data["embedding"]["max_length"] == 16
    assert data["memory"]["cache_per_token"] == 0
    assert data["errors"] == {}


def test_inspect_a_gguf_file(cli: Cli) -> None:
    name = next(n for n in goldens.gguf_names() if goldens.gguf_case(n).golden.model_type == "llama")
    case = goldens.gguf_case(name)
    data = cli("inspect", str(case.path), "--json").data
    assert data["recipe"] == "llama"
    assert data["rope"]["theta"] > 0
    assert data["errors"] == {}
    assert sum(group["count"] for group in data["tensors"]) >= len(case.golden.shapes)


def test_inspect_shows_what_it_can(cli: Cli, damaged: Path) -> None:
    """A model that cannot be loaded is what people inspect: tensors are shown, and each part's error."""
    config = json.loads((damaged / "config.json").read_text())
    write_json(damaged / "config.json", {**config, "model_type": "lama"})
    (damaged / "modules.json").write_text("[]")
    shown = cli("inspect", str(damaged))
    assert shown.code == 0
    assert "model.layers.[0-1].mlp.up_proj.weight" in shown.out
    assert "RLX-C001" in shown.out
    assert "RLX-C021" in shown.out
    assert set(cli("inspect", str(damaged), "--json").data["errors"]) == {"config", "pooling"}


def test_inspect_fails_where_weights_cannot_be_opened(cli: Cli, damaged: Path) -> None:
    weights = damaged / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    shown = cli("inspect", str(damaged))
    assert shown.code == 3 and "RLX-W017" in shown.out and "recipe      llama" in shown.out


def test_every_backend_is_listed(cli: Cli) -> None:
    """What `backend.name` takes, and what `doctor` tells."""
    listed = {row["name"]: row["about"] for row in cli("list", "backends", "--json").data}
    assert {"auto", "cpu", "reference"} <= listed.keys() and all(listed.values())
    assert cli("doctor", "--json").data["backends"] == list(listed)


def test_inspect_bare_weights(cli: Cli, llama: str) -> None:
    data = cli("inspect", f"{llama}/model.safetensors", "--json").data
    assert data["errors"]["config"]["code"] == "RLX-W005"
    assert data["parameters"] == cli("inspect", llama, "--json").data["parameters"]


def test_tensors_of_another_shape_are_another_group() -> None:
    def info(key: str, rows: int, dtype: str = "f32") -> rlxflow.TensorInfo:
        return rlxflow.TensorInfo(key, DTYPES[dtype], (rows, 256))

    infos = [info(f"h.{i}.w", 8) for i in (0, 1, 2, 5)] + [info("h.3.w", 4), info("h.4.w", 8, "q4_k")]
    groups = group_tensors(infos)
    assert [(g.pattern, g.count, g.dtype, g.parameters, g.nbytes) for g in groups] == [
        ("h.[0-2,5].w", 4, "f32", 4 * 2048, 4 * 8192),
        ("h.3.w", 1, "f32", 1024, 4096),
        ("h.4.w", 1, "q4_k", 2048, 8 * 144),
    ]


SPARSE = """
import re, sys
from pathlib import Path
from rlxflow.cli.main import main
code = main(["inspect", sys.argv[1], "--json"])
facts = Path("/proc/self/io").read_text() + Path("/proc/self/status").read_text()
print(code, *(re.search(rf"{name}:\\s+(\\d+)", facts)[1] for name in ("VmHWM", "rchar")))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_inspect_reads_headers_only(tmp_path: Path) -> None:
    """16 GB in 40 shards, all of it holes: under 200 MB of memory, and next to nothing is read."""
    stored = write_sparse_llama(tmp_path / "model")
    assert stored > 15e9
    program = [sys.executable, "-c", SPARSE, str(tmp_path / "model")]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    shown, numbers = done.stdout.splitlines()
    code, peak_kib, read = map(int, numbers.split())
    data = json.loads(shown)
    assert (code, data["nbytes"], data["errors"]) == (0, stored, {})
    assert data["memory"]["cache_per_token"] == 32 * 2 * 8 * 128 * 4
    assert peak_kib < 200_000
    assert read < 100e6  # Python's own modules among it


def test_check_finds_nothing_in_a_sound_model(cli: Cli, llama: str, bert: str) -> None:
    for path, absent in ((llama, "pooling"), (bert, "chat template")):
        data = cli("check", path, "--values", "--json").data
        assert data["ok"] is True
        assert {p["part"]: p["status"] for p in data["parts"] if p["status"] != "ok"} == {absent: "absent"}
    assert cli("check", llama).out.splitlines()[0] == "ok      files"


def test_check_finds_all_that_is_wrong(cli: Cli, damaged: Path) -> None:
    tensors = load_file(damaged / "model.safetensors")
    del tensors["model.norm.weight"]
    tensors["model.embed_tokens.weight"][3, 4] = np.nan
    save_file(tensors, damaged / "model.safetensors")
    (damaged / "modules.json").write_text("[]")
    (damaged / "tokenizer.json").write_text("{}")
    settings = {"chat_template": "{% for %}"}
    write_json(damaged / "tokenizer_config.json", settings)
    shown = cli("check", str(damaged), "--values", "--json")
    codes = {p["part"]: p["error"]["code"] for p in shown.data["parts"] if p["error"]}
    assert codes == {
        "pooling": "RLX-C021",
        "weights": "RLX-W033",
        "tokenizer": "RLX-T002",
        "chat template": "RLX-T031",
        "values": "RLX-W049",
    }
    assert shown.data["ok"] is False
    assert shown.code == 4  # that of the first


def test_check_skips_what_needs_a_failed_part(cli: Cli, damaged: Path) -> None:
    (damaged / "model.safetensors").write_bytes(b"")
    data = cli("check", str(damaged), "--values", "--json").data
    status = {p["part"]: p["status"] for p in data["parts"]}
    assert status["files"] == "failed"
    assert status["config"] == status["flow"] == status["tokenizer"] == "ok"
    assert status["weights"] == status["memory"] == status["values"] == "skipped"


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_check_values_names_the_tensor(cli: Cli, damaged: Path, dtype: str, value: float) -> None:
    tensors = load_file(damaged / "model.safetensors")
    bad = tensors["model.layers.1.mlp.up_proj.weight"].astype(dtype)
    bad[-1, -1] = value
    save_file(tensors | {"model.layers.1.mlp.up_proj.weight": bad}, damaged / "model.safetensors")
    assert cli("check", str(damaged)).code == 0
    shown = cli("check", str(damaged), "--values")
    assert shown.code == 3
    counts = "1 NaN, 0 infinite" if np.isnan(value) else "0 NaN, 1 infinite"
    assert f"model.layers.1.mlp.up_proj.weight ({counts})" in shown.err


def test_check_values_sees_quantisation_scales(cli: Cli, tmp_path: Path) -> None:
    files = [GgufFile(goldens.gguf_case(name).path) for name in goldens.gguf_names()]
    file, key = next((f, k) for f in files for k in f.keys() if f.info(k).dtype.name == "q8_0")  # noqa: SIM118
    data = bytearray(file.path.read_bytes())
    at = data.find(file.read(key).tobytes())
    data[at : at + 2] = struct.pack("<e", np.inf)  # the scale of the first block
    path = tmp_path / "bad.gguf"
    path.write_bytes(data)
    assert cli("check", str(file.path), "--values").code == 0
    shown = cli("check", str(path), "--values", "--json")
    (error,) = [p["error"] for p in shown.data["parts"] if p["error"]]
    assert error["code"] == "RLX-W049"
    assert len(error["details"]["tensors"]) == 1


@pytest.mark.parametrize("policy", ["direct", "fusable"])
def test_build_prints_a_graph_that_parses(cli: Cli, llama: str, policy: str) -> None:
    import rlxflow.ops  # noqa: F401 (fills the table of ops)

    shown = cli("build", llama, "--policy", policy)
    assert (shown.code, shown.err) == (0, "")
    assert parse_graph(shown.out).digest == cli("build", llama, "--policy", policy, "--json").data["digest"]
    assert ("gated_mlp" in shown.out or "attention_block" in shown.out) == (policy == "direct")


def test_build_other_views(cli: Cli, llama: str) -> None:
    flow = rlxflow.load(llama).flow
    assert cli("build", llama, "--code").out == repr(flow) + "\n"
    assert cli("build", llama, "--summary").out == str(flow.summary()) + "\n"
    assert cli("build", llama, "--summary", "--code").code == 2


@pytest.mark.parametrize("name", rlxflow.recipe_names())
def test_build_a_recipe(cli: Cli, name: str) -> None:
    shown = cli("build", name)
    assert shown.code == 0
    assert shown.out.startswith(f'graph "{name}"')
    assert shown.err.startswith("example sizes: ")
    assert cli("build", name, "--quiet").err == ""


def test_build_a_config_without_weights(cli: Cli, llama: str, tmp_path: Path) -> None:
    text = Path(llama, "config.json").read_text()
    path = tmp_path / "config.json"
    path.write_text(text)
    assert cli("build", str(path)).out == cli("build", llama).out  # the weights are f32 there too
    path.write_text("[]")
    assert cli("build", str(path)).err.startswith("RLX-C024")


def test_build_reports_what_is_wrong(cli: Cli, damaged: Path) -> None:
    (damaged / "model.safetensors").unlink()
    shown = cli("build", str(damaged))
    assert shown.code == 3
    assert shown.err.startswith("RLX-W029")


def test_profile_show(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "mine.rlx.toml"
    path.write_text('extends = "encoder"\n[fusion]\nskip = true\n')
    shown = cli("profile", "show", str(path), "--set", "passes.dce=false")
    assert shown.code == 0
    for part in ("mine.rlx.toml", "fusion.skip", "passes.dce", "--set passes.dce=false"):
        assert part in shown.out
    data = cli("profile", "show", "exact", "--json").data
    assert list(data) == ["source", "hash", "exact", "trades", "values"]


def test_profile_check(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "bad.rlx.toml"
    path.write_text("[fusion]\nskipp = true\n")
    shown = cli("profile", "check", "exact", str(path))
    assert shown.code == 2
    assert shown.out == f"ok      exact\nfailed  {path}\n"
    assert f"{path}:2:1" in shown.err
    assert "did you mean" in shown.err
    data = cli("profile", "check", "exact", str(path), "--json").data
    assert [entry["ok"] for entry in data] == [True, False]
    assert data[1]["error"]["code"] == "RLX-P003"
    assert cli("profile", "check", *preset_names()).code == 0


def test_profile_list_and_schema(cli: Cli) -> None:
    listed = cli("profile", "list", "--json").data
    assert [entry["name"] for entry in listed] == list(preset_names())
    assert "fusion" in cli("profile", "schema").data["properties"]


@pytest.mark.parametrize("kind", CATALOG)
def test_list(cli: Cli, kind: str) -> None:
    rows = cli("list", kind, "--json").data
    assert all(row["name"] and row["about"] for row in rows)
    lines = cli("list", kind).out.splitlines()
    assert [line.split()[0] for line in lines] == [row["name"] for row in rows]
    known = {"ops": sorted(OPS), "recipes": rlxflow.recipe_names(), "presets": list(preset_names())}
    if kind in known:
        assert [row["name"] for row in rows] == known[kind]


def test_doctor(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    shown = cli("doctor")
    assert shown.code == 0
    assert "numpy" in shown.out
    data = cli("doctor", "--json").data
    assert list(data) == [
        *("rlxflow", "python", "system", "packages", "cpu", "available_memory", "limits", "hub_cache"),
        *("presets", "backends"),
    ]
    assert data["cpu"]["cores"] >= 1
    assert "hf_secret" not in shown.out + json.dumps(data)


def test_doctor_names_a_package_that_is_missing(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlxflow.inspect.machine.requires", lambda name: ["no-such-package>=1", "numpy"])
    shown = cli("doctor")
    assert shown.code == 1
    assert "no-such-package is missing" in shown.out


def test_inspect_from_python(llama: str) -> None:
    found = inspect_model(llama)
    assert found.report is not None
    assert found.report.ok
    with pytest.raises(RlxError, match="RLX-W001"):
        inspect_model("no/such/model")


def test_inspect_tells_the_memory_plan(cli: Cli, llama: str) -> None:
    import rlxflow

    data = cli("inspect", llama, "--context", "50", "--json").data["memory"]
    model = rlxflow.load(llama)
    assert data["stored"] == model.report.nbytes <= data["weights"] < data["loading"]
    state = model.executable.new_state(1, 50)
    assert data["cache_at_context"] == sum(a.nbytes for a in state.arrays.values())
    assert data["cache_at_context"] == 50 * data["cache_per_token"]
    half = cli("inspect", llama, "--context", "50", "--set", "precision.kv_cache=f16", "--json").data
    assert 2 * half["memory"]["cache_at_context"] == data["cache_at_context"]
    shown = cli("inspect", llama, "--context", "50").out
    assert "for 50 tokens" in shown and "on backend reference" in shown
    wrong = cli("inspect", llama, "--context", "0")
    assert wrong.code == 2 and "not a number of tokens" in wrong.err
