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
    "RLX-C040": "GGUF metadata without an architecture, or with one that is not known",
    "RLX-C041": "a value or a tensor that the GGUF model needs is missing",
    "RLX-C042": "a GGUF value of the wrong type or out of range",
    "RLX-C043": "GGUF values that contradict each other or the tensors",
    "RLX-C044": "a GGUF setting that is not understood or not supported",
    # T: tokenizers and templates
    # P: profiles
    "RLX-P001": "a profile file does not exist or cannot be read",
    "RLX-P002": "a profile is not valid TOML in UTF-8",
    "RLX-P003": "a profile key or section that does not exist",
    "RLX-P004": "a profile value of the wrong type, or outside what its key takes",
    "RLX-P005": "profile settings that contradict each other",
    "RLX-P006": "a profile's extends line that cannot be followed",
    "RLX-P007": "a profile written for a newer rlxflow",
    "RLX-P008": "no preset of that name",
    "RLX-P009": "an override that is not section.key=value",
    "RLX-P010": "a profile larger than 1 MiB",
    # F: flows
    # I: graphs
    # U: fusion
    # B: backends
    # R: inputs at run time
    # X: plugins
}
