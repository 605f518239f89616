"""The programs that benchmarks/decoder.py compares.

An engine is a function `(path, threads) -> turn`. `turn(ids, count)` reads the prompt `ids` in a new context
and chooses a token, then writes `count` more greedily (end tokens do not end it); it returns the seconds of
both. It runs in a process of its own and imports its library there. Some have `turn.go_on(ids)`: the seconds
to the first token of a prompt that is all of the last turn and then `ids`, of which they read only these.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Turn = Callable[[list[int], int], tuple[float, float]]
CONTEXT = 2304  # tokens that fit, where an engine must be told; more if a prompt needs it
BATCH = 512  # prompt tokens at once, where an engine has such a setting


def rlxflow_engine(path: Path, threads: int, profile: str = "decode", settings: tuple[str, ...] = ()) -> Turn:
    import rlxflow
    from rlxflow.profile import load_profile
    from rlxflow.runtime.decoding import Decoding, chunks
    from rlxflow.runtime.sampling import Sampler

    os.environ["RLXFLOW_THREADS"] = str(threads)
    model = rlxflow.load(path, load_profile(profile, settings) if settings else profile)
    sampler, decoding = Sampler(), Decoding(model)

    def feed(part: list[int]) -> int:
        for call in chunks({0: part}):
            logits = decoding.feed(call)[0]
        return sampler.next(logits[0])

    def turn(ids: list[int], count: int) -> tuple[float, float]:
        decoding.leave()  # as `generate` does at its end
        start = time.perf_counter()
        decoding.reserve(len(ids) + count)
        token = feed(ids)
        read = time.perf_counter()
        for _ in range(count):
            token = feed([token])
        return read - start, time.perf_counter() - read

    turn.weight_bytes = getattr(model.executable, "weight_bytes", None)  # type: ignore[attr-defined]
    turn.go_on = lambda ids: seconds(feed, ids)  # type: ignore[attr-defined]
    return turn


def seconds(feed: Callable[[list[int]], int], ids: list[int]) -> float:
    start = time.perf_counter()
    feed(ids)
    return time.perf_counter() - start


def llama_cpp(path: Path, threads: int) -> Turn:
    import llama_cpp as api

    api.llama_log_set(silent(api), None)
    api.llama_backend_init()
    model = api.llama_model_load_from_file(bytes(path), api.llama_model_default_params())
    settings = api.llama_context_default_params()
    settings.n_ctx, settings.n_batch, settings.n_ubatch = CONTEXT, BATCH, BATCH
    settings.n_threads = settings.n_threads_batch = threads
    context = api.llama_init_from_model(model, settings)
    if not context:
        raise RuntimeError(f"llama.cpp does not load {path}")
    rows = api.llama_vocab_n_tokens(api.llama_model_get_vocab(model))

    def feed(part: list[int]) -> int:
        for first in range(0, len(part), BATCH):
            some = part[first : first + BATCH]
            tokens = (api.llama_token * len(some))(*some)
            if api.llama_decode(context, api.llama_batch_get_one(tokens, len(some))):
                raise RuntimeError("llama_decode failed")
        return int(np.ctypeslib.as_array(api.llama_get_logits_ith(context, -1), (rows,)).argmax())

    def turn(ids: list[int], count: int) -> tuple[float, float]:
        nonlocal context
        if len(ids) + count + BATCH > settings.n_ctx:
            api.llama_free(context)
            settings.n_ctx = len(ids) + count + BATCH
            context = api.llama_init_from_model(model, settings)
        api.llama_memory_clear(api.llama_get_memory(context), True)
        start = time.perf_counter()
        token = feed(ids)
        read = time.perf_counter()
        for _ in range(count):
            token = feed([token])
        return read - start, time.perf_counter() - read

    turn.go_on = lambda ids: seconds(feed, ids)  # type: ignore[attr-defined]
    return turn


_KEPT: list[Any] = []


def silent(api: Any) -> Any:
    """A log callback that says nothing; the library keeps its address, so it must stay alive."""
    callback = api.llama_log_callback(lambda level, text, data: None)
    _KEPT.append(callback)
    return callback


def openvino_genai(path: Path, threads: int) -> Turn:
    """Reads the GGUF file itself. Its cache of prompts is of no use here: no two prompts begin alike."""
    import openvino
    import openvino_genai as api

    pipeline = api.LLMPipeline(str(path), "CPU", INFERENCE_NUM_THREADS=threads)
    settings = api.GenerationConfig()
    settings.ignore_eos, settings.do_sample = True, False

    def turn(ids: list[int], count: int) -> tuple[float, float]:
        settings.max_new_tokens = count + 1
        array = np.array([ids], np.int64)
        prompt = api.TokenizedInputs(openvino.Tensor(array), openvino.Tensor(np.ones_like(array)))
        result = pipeline.generate(prompt, settings)
        if len(result.tokens[0]) != count + 1:
            raise RuntimeError(f"{len(result.tokens[0])} tokens instead of {count + 1}")
        first = result.perf_metrics.get_ttft().mean / 1e3
        return first, result.perf_metrics.get_generate_duration().mean / 1e3 - first

    return turn


def onnxruntime_genai(path: Path, threads: int) -> Turn:
    import onnxruntime_genai as api

    config = api.Config(str(path))
    options = {"intra_op_num_threads": threads, "inter_op_num_threads": 1}
    config.overlay(json.dumps({"model": {"decoder": {"session_options": options}}}))
    model = api.Model(config)

    def turn(ids: list[int], count: int) -> tuple[float, float]:
        settings = api.GeneratorParams(model)
        total = len(ids) + count + 1
        settings.set_search_options(max_length=total, min_length=total, do_sample=False)
        generator = api.Generator(model, settings)
        start = time.perf_counter()
        generator.append_tokens(np.array([ids], np.int32))
        generator.generate_next_token()
        read = time.perf_counter()
        for _ in range(count):
            generator.generate_next_token()
        return read - start, time.perf_counter() - read

    return turn


def torch_engine(path: Path, threads: int) -> Turn:
    """Transformers, eager, in bf16."""
    import torch
    from transformers import AutoModelForCausalLM, DynamicCache
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(threads)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16).eval()

    @torch.inference_mode()
    def turn(ids: list[int], count: int) -> tuple[float, float]:
        cache = DynamicCache(config=model.config)

        def feed(part: list[int]) -> int:
            found = model(torch.tensor([part]), past_key_values=cache, use_cache=True, logits_to_keep=1)
            return int(found.logits[0, -1].argmax())

        start = time.perf_counter()
        token = feed(ids)
        read = time.perf_counter()
        for _ in range(count):
            token = feed([token])
        return read - start, time.perf_counter() - read

    return turn


ENGINES: dict[str, Callable[[Path, int], Turn]] = {
    "rlxflow": rlxflow_engine,
    "rlxflow-exact": lambda path, threads: rlxflow_engine(path, threads, "exact"),
    "llama.cpp": llama_cpp,
    "openvino": openvino_genai,
    "onnxruntime-int4": onnxruntime_genai,
    "torch": torch_engine,
}


def engine(name: str) -> Callable[[Path, int], Turn]:
    """An engine by name; `rlxflow:KEY=VALUE,...` is rlxflow with these profile settings."""
    base, _, settings = name.partition(":")
    if settings and base == "rlxflow":
        return lambda path, threads: rlxflow_engine(path, threads, "decode", tuple(settings.split(",")))
    if name not in ENGINES:
        raise SystemExit(f"no engine {name!r}; there are {', '.join(ENGINES)} and rlxflow:KEY=VALUE,...")
    return ENGINES[name]
