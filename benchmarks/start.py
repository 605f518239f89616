"""Cold start: from the start of a process to the first embedding, beside the peers; and compile times.

    .venv-peers/bin/python benchmarks/start.py [--runs 5] [--threads 2] [--made FOLDER]

Every run is a process of its own that imports an engine, loads MiniLM, encodes the same sentence and computes
its hidden states; the engines take turns. A first run, which fills the caches of files and byte code, is not
counted. rlxflow runs with an empty cache of compiled code and with a full one.

Then the seconds that MiniLM's program and that of a 24-layer encoder of BERT-large's shape take to compile.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from alone import Disturbance, timing_lock
from engines import Files, minilm_files

TEXT = "Every run is a process of its own that loads the model and embeds one sentence."
PEERS = {  # the package that each needs
    "onnxruntime": "onnxruntime",
    "onnxruntime-fused": "onnxruntime",
    "openvino": "openvino",
    "ctranslate2": "ctranslate2",
}
PEER = """
import sys
import numpy as np
from pathlib import Path
from tokenizers import Tokenizer
from engines import Files, engine
name, model, made, threads, text = sys.argv[1:]
run = engine(name)(Files(Path(model), Path(made)), int(threads))
ids = np.array([Tokenizer.from_file(model + "/tokenizer.json").encode(text).ids], np.int64)
length = int(np.flatnonzero(ids[0])[-1]) + 1
hidden = run(ids[:, :length], np.ones((1, length), np.int64))
print(hidden.mean(1).shape[1], flush=True)
"""
OURS = """
import sys
import rlxflow
name, model, made, threads, text = sys.argv[1:]
print(rlxflow.load(model, profile="encoder").embed(text).shape[1], flush=True)
"""


def start(name: str, files: Files, threads: int, cache: Path) -> float:
    """Seconds from the start of a process to its first embedding."""
    code = OURS if name.startswith("rlxflow") else PEER
    arguments = [sys.executable, "-c", code, name, str(files.model), str(files.made), str(threads), TEXT]
    here = str(Path(__file__).parent)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"RLXFLOW_CACHE": str(cache), "RLXFLOW_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
    begin = time.perf_counter()
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        seconds = time.perf_counter() - begin
    if not line.strip().isdecimal():
        raise SystemExit(f"{name} failed")
    return seconds


def time_starts(files: Files, threads: int, runs: int, folder: Path) -> None:
    installed = [name for name, package in PEERS.items() if find_spec(package) is not None]
    for name in (name for name in PEERS if name not in installed):
        print(f"left out: {name} is not installed")
    names = ["rlxflow, empty cache", "rlxflow, full cache", *installed]
    times: dict[str, list[float]] = {name: [] for name in names}
    for i in range(runs + 1):
        for name in names:
            cache = folder / (f"cache{i}" if name == "rlxflow, empty cache" else "cache")
            cache.mkdir(mode=0o700, exist_ok=True)
            times[name].append(start(name, files, threads, cache))
    print(f"{'process start to first embedding':34}{'ms':>6}  [quartiles]")
    for name, values in times.items():
        low, median, high = np.percentile(values[1:], (25, 50, 75)) * 1e3
        print(f"  {name:32}{median:6.0f}  [{low:.0f} {high:.0f}]")


def compile_seconds(hidden: int, ffn: int, heads: int, layers: int) -> tuple[float, float]:
    """Seconds to plan and to generate code for a BERT encoder of this shape."""
    from rlxflow import BertQkvStyle, MapWeights, ModelFlow
    from rlxflow.backends.cpu.backend import CpuBackend
    from rlxflow.backends.cpu.emit import emit
    from rlxflow.backends.cpu.llvm import compile_text, host_target
    from rlxflow.backends.cpu.planner import make_plan
    from rlxflow.fusion.pipeline import facts_for, optimize
    from rlxflow.profile import load_profile

    flow = (
        ModelFlow("bert")
        .input("x", ("B", "S", hidden), "f32")
        .input("attention_mask", ("B", "S"), "i64", default=1)
        .repeat_bert_layers(layers, "", BertQkvStyle.BERT, hidden, heads, 1e-12)
    )
    shapes = {"attention.self.query": (hidden, hidden), "attention.self.key": (hidden, hidden),
              "attention.self.value": (hidden, hidden), "attention.output.dense": (hidden, hidden),
              "intermediate.dense": (ffn, hidden), "output.dense": (hidden, ffn)}  # fmt: skip
    weights = {}
    for i in range(layers):
        for name, shape in shapes.items():
            weights[f"encoder.layer.{i}.{name}.weight"] = np.zeros(shape, np.float32)  # never touched
            weights[f"encoder.layer.{i}.{name}.bias"] = np.zeros(shape[0], np.float32)
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            for part in ("weight", "bias"):
                weights[f"encoder.layer.{i}.{name}.{part}"] = np.zeros(hidden, np.float32)
    profile = load_profile("encoder", ["backend.name=cpu"])
    begin = time.perf_counter()
    built = flow.build(MapWeights(weights))
    graph = optimize(built.graph, profile, facts_for(profile, None), CpuBackend().claims).graph
    plan = make_plan(graph, host_target(), profile.precision)
    planned = time.perf_counter()
    compile_text(emit(plan, host_target()), host_target())
    return planned - begin, time.perf_counter() - planned


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--made", type=Path, help="keep the peers' converted models here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, timing_lock(), minilm_files(options.made) as files:
        disturbance = Disturbance()
        time_starts(files, options.threads, options.runs, Path(folder))
        for name, shape in {"MiniLM": (384, 1536, 12, 6), "BERT-large": (1024, 4096, 16, 24)}.items():
            planned, compiled = compile_seconds(*shape)
            print(f"{name}: {planned:.2f} s to plan, {compiled:.2f} s to compile")
        print(disturbance)


if __name__ == "__main__":
    main()
