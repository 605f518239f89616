"""Record tests/goldens/activations/*.safetensors: what Hugging Face computes inside tiny models.

    python tests/oracles/make_activation_goldens.py [name ...]      (needs torch and transformers)

Configs are those of `tests/porting/recorded_models.py`; `shapes.json` holds the shapes of their parameters.
"""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path

import numpy as np
import torch
import transformers

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "porting"))

from recorded_models import CONFIGS, FOLDER, file_of, weights_of

from rlxflow.porting.activations import write_activations
from rlxflow.porting.dump import record


def main(names: list[str]) -> None:
    FOLDER.mkdir(exist_ok=True)
    shapes_file = FOLDER / "shapes.json"
    shapes = json.loads(shapes_file.read_text()) if shapes_file.exists() else {}
    for name in names:
        config = transformers.AutoConfig.for_model(**copy.deepcopy(CONFIGS[name]))
        config._attn_implementation = "eager"
        cls = getattr(transformers, CONFIGS[name]["architectures"][0])
        model = cls(config, **({"add_pooling_layer": False} if cls is transformers.BertModel else {}))
        shapes[name] = {key: list(p.shape) for key, p in model.named_parameters()}
        state = {k: torch.from_numpy(v) for k, v in weights_of(shapes[name]).items()}
        if config.tie_word_embeddings and "lm_head.weight" in model.state_dict():
            state["lm_head.weight"] = state["model.embed_tokens.weight"]
        model.load_state_dict(state, strict=True)
        ids = np.random.default_rng(3).integers(0, config.vocab_size, (2, 9))
        mask = (np.arange(9) < np.array([[9], [6]])).astype(np.int64)
        inputs = {"input_ids": ids * mask, "attention_mask": mask}
        write_activations(file_of(name), record(torch, model.float().eval(), inputs))
        print(name, file_of(name).stat().st_size)
    shapes_file.write_text(json.dumps(shapes, sort_keys=True))


if __name__ == "__main__":
    main(sys.argv[1:] or list(CONFIGS))
