"""A third-party package, installed, adds a fused op, a rule, a stage and a recipe by entry points alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_files import write_model

SAMPLE = Path(__file__).parent.parent / "plugin_sample"

# In a process of its own: ops and rules stay in their tables once loaded.
SCRIPT = """
import json, sys
import numpy as np
import rlxflow
from rlxflow.flow.plugins import find_stage, stage_names
from rlxflow.fusion.rules import all_rules
from rlxflow.ir.op import OPS

model = rlxflow.load(sys.argv[1])
report = model.explain(batch=1, seq=3)
rule = report.rule("fuse-soft-sign")
ids = np.array([[0, 1, 2]])
print(json.dumps({
    "recipe": "sample" in rlxflow.recipe_names(),
    "stage": "SoftSignStage" in stage_names() and find_stage("SoftSignStage").__module__,
    "rule": [r.name for r in all_rules() if r.name == "fuse-soft-sign"],
    "op": OPS["soft_sign"].level,
    "matched": [rule.matched, rule.expected],
    "fused": report.graphs["fused"].count("soft_sign"),
    "text": str(report),
    "result": model(input_ids=ids)["last_hidden_state"].tolist(),
}))
"""


def install(target: Path) -> None:
    """What pip does: the module, and beside it the metadata with the entry points."""
    project = tomllib.loads((SAMPLE / "pyproject.toml").read_text("utf-8"))["project"]
    info = target / "rlxflow_sample-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 1.0\n", "utf-8")
    lines = []
    for group, points in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in points.items()), ""]
    (info / "entry_points.txt").write_text("\n".join(lines), "utf-8")
    (target / "rlxflow_sample.py").write_text((SAMPLE / "rlxflow_sample.py").read_text("utf-8"), "utf-8")


def run(site: Path, *arguments: str) -> Any:
    """What a process that has the package prints, read as JSON."""
    path = os.pathsep.join([str(site), str(SAMPLE.parent.parent)])
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_everything_is_found(tmp_path: Path) -> None:
    install(tmp_path / "site")
    table = np.array([[-3.0, 1.0], [0.0, 4.0], [-1.0, 9.0]], np.float32)
    config = {"model_type": "sample", "vocab_size": 3, "hidden_size": 2}
    model = write_model(tmp_path / "model", config, {"embed.weight": table})
    found = run(tmp_path / "site", "-c", SCRIPT, str(model))
    assert found["recipe"] and found["stage"] == "rlxflow_sample" and found["rule"] == ["fuse-soft-sign"]
    assert found["op"] == "fused" and found["matched"] == [1, 1] and found["fused"] == 1
    assert "fuse-soft-sign" in found["text"]
    assert np.allclose(found["result"], [table / (1 + np.abs(table))], rtol=1e-6)


@pytest.mark.parametrize(
    ("kind", "name", "about"),
    [
        ("ops", "soft_sign", "fused: x / (1 + |x|)"),
        ("ops", "encoder_layer", "fused: "),
        ("stages", "SoftSignStage", "rlxflow_sample:SoftSignStage"),
        ("recipes", "sample", "A package of its own"),
    ],
)
def test_everything_is_listed(kind: str, name: str, about: str, tmp_path: Path) -> None:
    install(tmp_path)
    rows = run(tmp_path, "-m", "rlxflow", "list", kind, "--json")
    (found,) = [row["about"] for row in rows if row["name"] == name]
    assert found.startswith(about)
