"""Every error code with its one-line meaning; docs/errors.md is generated from this table."""

from __future__ import annotations

CODES: dict[str, str] = {
    # W: weights
    "RLX-W001": "the file or directory does not exist or cannot be opened",
    "RLX-W002": "no tensor of that name",
    "RLX-W003": "an array type that has no rlxflow dtype",
    "RLX-W040": "not a GGUF file",
    "RLX-W041": "a GGUF version, byte order, array or tensor type that rlxflow does not read",
    "RLX-W042": "a GGUF file ends before its header or its tensors do",
    "RLX-W043": "a number in a GGUF header is over its limit",
    "RLX-W044": "a malformed GGUF metadata entry",
    "RLX-W045": "a malformed GGUF tensor entry",
    "RLX-W046": "GGUF parts that do not belong together, or not all of them",
    "RLX-W047": "a file changed while it was being read",
    "RLX-W048": "a GGUF tensor whose rows do not divide into the model's heads",
    # C: configs and recipes
    # T: tokenizers and templates
    # P: profiles
    # F: flows
    # I: graphs
    # U: fusion
    # B: backends
    # R: inputs at run time
    # X: plugins
}
