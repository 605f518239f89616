"""Every error code with its one-line meaning; docs/errors.md is generated from this table."""

from __future__ import annotations

CODES: dict[str, str] = {
    # W: weights
    "RLX-W001": "the file or directory does not exist or cannot be opened",
    "RLX-W002": "no tensor of that name",
    "RLX-W003": "an array type that has no rlxflow dtype",
    "RLX-W010": "a file that holds something other than the tensors its name promises",
    "RLX-W011": "a safetensors file too short for its header",
    "RLX-W012": "a safetensors header over the size limit",
    "RLX-W013": "a header or index that is not strict JSON",
    "RLX-W014": "a malformed safetensors header entry",
    "RLX-W015": "safetensors offsets with a hole, an overlap or a wrong order",
    "RLX-W016": "a tensor whose bytes do not fit its shape and dtype",
    "RLX-W017": "a safetensors file longer or shorter than its tensors",
    "RLX-W018": "a tensor name that is empty, too long or holds control characters",
    "RLX-W019": "a shape beyond rlxflow's limits",
    "RLX-W020": "a tensor dtype that rlxflow lists but does not read",
    "RLX-W025": "a malformed shard index",
    "RLX-W026": "shards that are missing",
    "RLX-W027": "a shard index and shards that disagree",
    "RLX-W028": "a file name that leads out of the model directory",
    "RLX-W029": "a directory with no weights, or several candidates",
    "RLX-W030": "weights in a format that rlxflow does not read",
    "RLX-W031": "one tensor in two shards",
    "RLX-W032": "conflicting wishes for one weight",
    "RLX-W033": "wanted tensors that are in no file",
    "RLX-W034": "tensors of another shape than wanted",
    "RLX-W035": "a quantised checkpoint of a kind that rlxflow does not read",
    "RLX-W036": "weights that do not fit in memory",
    "RLX-W037": "two tensors that should be one, with different values",
    "RLX-W038": "arrays that cannot be written as safetensors",
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
    "RLX-T001": "the tokenizer file does not exist or cannot be read",
    "RLX-T002": "a malformed tokenizer.json",
    "RLX-T003": "a malformed settings file beside a tokenizer",
    "RLX-T010": "text that cannot be tokenised",
    "RLX-T011": "a length that leaves no room for text",
    "RLX-T012": "a value that is not a token id",
    "RLX-T013": "a token id beyond the model's embedding rows",
    "RLX-T020": "a GGUF tokenizer of a kind that rlxflow does not build",
    "RLX-T021": "GGUF tokenizer metadata that is missing or contradictory",
    "RLX-T030": "the model has no chat template",
    "RLX-T031": "a malformed or oversized chat template",
    "RLX-T032": "a chat template failed while it was rendered",
    "RLX-T033": "a chat template refuses the messages",
    "RLX-T034": "a chat template went over a limit",
    "RLX-T035": "a chat template tried what the sandbox forbids",
    "RLX-T036": "messages of the wrong form",
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
