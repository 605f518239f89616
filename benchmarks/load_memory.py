"""Peak private memory while a large random checkpoint is loaded, plainly and with its weights packed.

    python benchmarks/load_memory.py [--gb 2.0]

Writes a BERT-shaped checkpoint of f32 weights and reads it in fresh processes: through `rlxflow.load`, and
through the pipeline's weight-time expressions, which join q, k and v of each layer as they read. RssAnon is
sampled every millisecond against what the process had after its imports. The limit: bytes held at the end +
the largest tensor + 5 %.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

HIDDEN, INNER, VOCAB = 2048, 8192, 8000
CONFIG = {
    "model_type": "bert",
    "vocab_size": VOCAB,
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_attention_heads": 16,
    "max_position_embeddings": 512,
}


def shapes(layers: int) -> dict[str, tuple[int, ...]]:
    """The checkpoint's tensors."""
    norm = {"weight": (HIDDEN,), "bias": (HIDDEN,)}
    found: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (VOCAB, HIDDEN),
        "embeddings.position_embeddings.weight": (512, HIDDEN),
        "embeddings.token_type_embeddings.weight": (2, HIDDEN),
    }
    found |= {f"embeddings.LayerNorm.{name}": shape for name, shape in norm.items()}
    rows = {f"attention.self.{name}": (HIDDEN, HIDDEN) for name in ("query", "key", "value")}
    rows |= {"attention.output.dense": (HIDDEN, HIDDEN)}
    rows |= {"intermediate.dense": (INNER, HIDDEN), "output.dense": (HIDDEN, INNER)}
    for i in range(layers):
        for name, shape in rows.items():
            found[f"encoder.layer.{i}.{name}.weight"] = shape
            found[f"encoder.layer.{i}.{name}.bias"] = shape[:1]
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            found |= {f"encoder.layer.{i}.{name}.{part}": shape for part, shape in norm.items()}
    return found


def write(folder: Path, tensors: Mapping[str, tuple[int, ...]], layers: int) -> int:
    """One safetensors file, tensor by tensor; the bytes of the tensors."""
    header: dict[str, Any] = {}
    at = 0
    for key, shape in tensors.items():
        size = 4 * math.prod(shape)
        header[key] = {"dtype": "F32", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    rng = np.random.default_rng(0)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for shape in tensors.values():
            file.write(rng.standard_normal(shape, np.float32).data)
    (folder / "config.json").write_text(json.dumps({**CONFIG, "num_hidden_layers": layers}), "utf-8")
    return at


def rss_anon() -> int:
    """Private bytes of this process."""
    for line in Path("/proc/self/status").read_text("ascii").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("this system does not tell RssAnon; run on Linux")


class Peak:
    """The largest RssAnon within a `with` block, in bytes above that at its start."""

    def __enter__(self) -> Peak:
        self.start = self.top = rss_anon()
        self._done = threading.Event()
        self._watcher = threading.Thread(target=self._sample)
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._watcher.join()

    @property
    def grown(self) -> int:
        return self.top - self.start

    def _sample(self) -> None:
        while not self._done.is_set():
            self.top = max(self.top, rss_anon())
            time.sleep(0.001)


def load_plainly(folder: Path) -> dict[str, int]:
    """rlxflow.load: every weight in the reference backend."""
    import rlxflow.runtime.load

    with Peak() as peak:
        model = rlxflow.runtime.load.load(folder)
    return {"grown": peak.grown, "held": model.report.nbytes, "joined": 0}


def load_packed(folder: Path) -> dict[str, int]:
    """Every weight of the fused program, q, k and v joined."""
    from rlxflow.fusion.pipeline import facts_for, optimize
    from rlxflow.inspect.examine import examine
    from rlxflow.profile.load import load_profile

    profile = load_profile("encoder")
    with Peak() as peak:
        built = examine(folder, profile).built
        assert built is not None
        optimized = optimize(built.graph, profile, facts_for(profile, 32))
        weights = optimized.weights(built.weights)
        arrays = [weights.read(key) for key in optimized.graph.params]
    return {"grown": peak.grown, "held": sum(a.nbytes for a in arrays), "joined": len(optimized.expressions)}


MODES = {"plain": load_plainly, "packed": load_packed}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gb", type=float, default=2.0)
    parser.add_argument("--mode", choices=MODES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.mode:
        print(json.dumps(MODES[args.mode](args.folder)))
        return
    layers = max(1, round(args.gb * 1e9 / (4 * (4 * HIDDEN**2 + 2 * HIDDEN * INNER))))
    tensors = shapes(layers)
    largest = 4 * max(math.prod(shape) for shape in tensors.values())
    print(f"{'load':<7}  {'weights':>9}  {'largest':>9}  {'peak':>9}  {'limit':>9}  joined")
    with tempfile.TemporaryDirectory() as name:
        write(Path(name), tensors, layers)
        for mode in MODES:
            command = [sys.executable, __file__, "--mode", mode, "--folder", name]
            told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            limit = 1.05 * told["held"] + largest
            cells = [f"{n / 1e6:>6.0f} MB" for n in (told["held"], largest, told["grown"], limit)]
            verdict = "" if told["grown"] <= limit else "  OVER THE LIMIT"
            print(f"{mode:<7}  {'  '.join(cells)}  {told['joined']}{verdict}")


if __name__ == "__main__":
    main()
