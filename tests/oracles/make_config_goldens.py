"""Make `goldens/configs.json`: the config.json that Hugging Face writes for each recipe, all at its defaults.

Run with transformers:

    python tests/oracles/make_config_goldens.py
"""

from __future__ import annotations

import json
from pathlib import Path

import transformers

ROOT = Path(__file__).parents[2]


def main() -> None:
    transformers.logging.set_verbosity_error()
    names = sorted(path.stem.replace("xlm_", "xlm-") for path in (ROOT / "recipes").glob("[a-z]*.py"))
    configs = {
        name: json.loads(transformers.AutoConfig.for_model(name).to_json_string())
        for name in names
        if name in transformers.CONFIG_MAPPING
    }
    lines = ",\n".join(f'"{name}": {json.dumps(config)}' for name, config in configs.items())
    path = ROOT / "tests" / "goldens" / "configs.json"
    path.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
    print(f"{len(configs)} configs, transformers {transformers.__version__}")


if __name__ == "__main__":
    main()
