"""A loaded model: callable on arrays, and on text where it has a tokenizer."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Never, NoReturn, Unpack, overload

import numpy as np

from rlxflow.backends.base import CacheState, Executable
from rlxflow.dtypes import Array
from rlxflow.errors import InputError, RlxError, TokenizerError
from rlxflow.flow.input_spec import InputSpec
from rlxflow.ir.graph import Graph
from rlxflow.quick_dataclass import dataclass
from rlxflow.runtime.inputs import RoomCheck, check_length, complete, names_of, pack_rows

if TYPE_CHECKING:
    from rlxflow.flow.built import BuiltModel
    from rlxflow.flow.config import RecipeConfig
    from rlxflow.flow.flow import ModelFlow
    from rlxflow.fusion.report import FusionReport
    from rlxflow.profile.model import CompileProfile
    from rlxflow.runtime.continuation import Generation
    from rlxflow.runtime.embedding_settings import EmbeddingSettings
    from rlxflow.runtime.generate import Stream
    from rlxflow.runtime.image_settings import ImageSettings
    from rlxflow.runtime.model_files import ModelFiles
    from rlxflow.runtime.prompt_cache import PromptCache
    from rlxflow.runtime.request import Prompt, Request, Settings
    from rlxflow.runtime.tokenizer import Tokenizer
    from rlxflow.weights.report import LoadReport

_PROFILE = "the profile says where and how precisely it computes: rlxflow.load(path, profile=…)"
ELSEWHERE = {  # what models of other libraries have, and what there is here
    **dict.fromkeys(("to", "cpu", "cuda", "half", "float", "bfloat16", "device", "dtype"), _PROFILE),
    **dict.fromkeys(("eval", "train"), "nothing is trained here, so there is no mode to set"),
    "forward": "call it: model(input_ids=…)",
    "encode": "use .embed(texts)",
}


@dataclass(frozen=True, eq=False, repr=False)
class Model:
    """A built flow with what surrounds it.

    `model(input_ids=…, attention_mask=…)`, of a vision encoder `model(pixel_values=…)`, returns named arrays:
    `logits` [B, S, V] from language models, `last_hidden_state` [B, S, H] and, where there is pooling,
    `embedding` [B, H] from encoders. Rows may be padded on either side; padded positions of results are zero,
    and a sequence's numbers are the same bits whatever its padding and its batch mates.
    """

    name: str
    built: BuiltModel
    config: RecipeConfig
    tokenizer: Tokenizer | None = None
    embedding: EmbeddingSettings | None = None
    chat_template: str | None = None
    files: ModelFiles | None = None
    images: ImageSettings | None = None

    @classmethod
    def started(cls, assemble: Callable[[], Model], **known: Any) -> Model:
        """A model whose program was kept on disk: `known` are the fields and cached properties it runs by.

        `built` and `config` come from `assemble`, when somebody asks for them.
        """
        model = cls.__new__(cls)
        model.__dict__.update(known, _assemble=assemble)
        return model

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name not in ("built", "config") or "_assemble" not in self.__dict__:
                hint = f". {ELSEWHERE[name]}" if name in ELSEWHERE else ""
                message = f"{type(self).__name__!r} object has no attribute {name!r}{hint}"
                raise AttributeError(message, name=name)
            model = self._assemble()
            self.__dict__.update(built=model.built, config=model.config)
            return self.__dict__[name]

    def __reduce__(self) -> NoReturn:
        raise RlxError(
            "a model cannot be pickled: it is mapped files and compiled code",
            code="RLX-R073",
            where=self.name,
            hint="send its path, and call rlxflow.load(path) in each process; threads may share a model",
        )

    def __copy__(self) -> Model:
        return self  # nothing in it changes

    def __deepcopy__(self, memo: object) -> Model:
        return self

    def __repr__(self) -> str:
        return f"<Model {self.name}: {self.flow.name}, {self.report.params:,} parameters>"

    @property
    def flow(self) -> ModelFlow:
        return self.built.flow

    @property
    def graph(self) -> Graph:
        return self.built.graph

    @property
    def report(self) -> LoadReport:
        """What was found in the files; after compilation, also which weights the program keeps otherwise."""
        executable = self.__dict__.get("executable")
        return self.built.report.with_cast(getattr(executable, "kept", {}))

    @property
    def profile(self) -> CompileProfile:
        return self.built.profile

    @cached_property
    def executable(self) -> Executable:
        """The compiled program; weights are read at the first use."""
        return self.built.compile()

    @cached_property
    def _check_room(self) -> RoomCheck:
        return RoomCheck(self.signature)

    @cached_property
    def spare_caches(self) -> deque[CacheState]:
        """Those of the last generation, at most 256 MiB, which the next one uses; `clear()` frees them."""
        return deque(maxlen=1)

    @cached_property
    def inputs(self) -> tuple[InputSpec, ...]:
        """What the flow declares."""
        return self.flow.inputs

    @cached_property
    def signature(self) -> Graph:
        """A graph with the inputs, outputs and states of the model's; its nodes tell nothing."""
        return self.graph

    @property
    def is_decoder(self) -> bool:
        return bool(self.signature.states)

    @cached_property
    def max_positions(self) -> int | None:
        """The longest sequence the model was made for, in tokens."""
        return self.config.max_tokens

    def require_tokenizer(self) -> Tokenizer:
        """The tokenizer; raises `TokenizerError` for a model that came without one."""
        if self.tokenizer is None:
            raise TokenizerError(
                "this model has no tokenizer, so it takes token ids only",
                code="RLX-T040",
                where=self.name,
                hint="put its tokenizer.json beside the weights, or call model(input_ids=…)",
            )
        return self.tokenizer

    def require_decoder(self) -> None:
        """Raise `InputError` (R020) for a model that does not generate text."""
        if not self.is_decoder:
            hint = "use .embed(texts), or `rlxflow embed`"
            message = "this model does not generate text"
            raise InputError(message, code="RLX-R020", where=self.name, hint=hint)

    def __call__(
        self, *unnamed: Never, outputs: Sequence[str] | None = None, **arrays: Any
    ) -> dict[str, Array]:
        """Run the model on named arrays; `outputs` names what to compute, see the class for the default."""
        if unnamed:
            hint = "model(input_ids=…), or model(pixel_values=…); texts go to .embed or .generate"
            raise InputError("inputs are given by name", code="RLX-R006", where=self.name, hint=hint)
        wanted = self._default_outputs() if outputs is None else names_of(outputs)
        try:
            return (self._decode if self.is_decoder else self._encode)(arrays, wanted)
        except InputError as error:
            error.where = error.where or self.name
            raise

    def _encode(self, arrays: dict[str, Any], outputs: tuple[str, ...]) -> dict[str, Array]:
        if "pixel_values" in arrays:
            from rlxflow.flow.vision_config import VisionConfig
            from rlxflow.runtime.images import patches_of

            arrays = patches_of(self.config, arrays) if isinstance(self.config, VisionConfig) else arrays
        inputs = complete(self.inputs, arrays)
        check_length(inputs, self.max_positions, "cut the text; .embed(texts) does so by itself")
        self._check_room(inputs, outputs, 0)
        return self.executable(inputs, outputs=outputs)

    def _decode(self, arrays: dict[str, Any], outputs: tuple[str, ...]) -> dict[str, Array]:
        """Without caches from call to call: every row from its first position on."""
        specs = {s.name: s for s in self.inputs if s.name not in ("past_len", "new_len")}
        ids_spec = specs.pop("input_ids")
        mask_spec = InputSpec("attention_mask", ids_spec.shape, ids_spec.dtype, 1)
        given = complete((ids_spec, mask_spec, *specs.values()), arrays)
        check_length(given, self.max_positions, "give fewer tokens")
        rows = pack_rows(given.pop("input_ids"), given.pop("attention_mask"))
        lengths = {"past_len": np.zeros(len(rows.ids), np.int32), "new_len": rows.lengths}
        inputs = {**given, "input_ids": rows.ids, **lengths}
        self._check_room(inputs, outputs, rows.ids.shape[1])
        results = self.executable(inputs, self.executable.new_state(*rows.ids.shape), outputs)
        tokens = self.inputs[0].shape
        shapes = {name: v.shape for name, v in self.signature.outputs.items()}
        return {n: rows.unpack(a) if shapes[n][:2] == tokens else a for n, a in results.items()}

    def explain(
        self, batch: int = 1, seq: int = 32, profile: str | CompileProfile | None = None
    ) -> FusionReport:
        """What fusion does to the model for `batch` sequences of `seq` tokens, and why not more.

        Print it, or use `as_dict()`; docs/fusion-reports.md tells how to read it. No weight is read.
        """
        from rlxflow.runtime.compile import explain

        return explain(self.built, batch, seq, profile).report

    def save(self, directory: str | os.PathLike[str]) -> Path:
        """Write the canonical checkpoint: unfused safetensors under HF names, each tensor byte for byte.

        Whatever was fused or packed in memory, the files load anywhere. Settings and tokenizer files are
        copied, code is not. The directory must not exist yet, or be empty. Raises as `save_checkpoint`, and
        `InputError` (R072) for a model that was not loaded from files.
        """
        from rlxflow.runtime.save import save

        return save(self, Path(directory))

    def _default_outputs(self) -> tuple[str, ...]:
        inner = ("pooled", "normalized")
        return ("logits",) if self.is_decoder else tuple(n for n in self.signature.outputs if n not in inner)

    def embed(
        self,
        texts: Sequence[str] | str,
        *,
        batch_size: int = 32,
        normalize: bool | None = None,
        progress: bool | None = None,
        prompt_name: str | None = None,
    ) -> Array:
        """Embeddings, float32 [n, d], one row per text in the order given (one row for a single string).

        Texts longer than the model takes are cut, and a call that cuts gives one `TruncationWarning`.
        `normalize` overrides what the model's settings say; `progress` shows a bar on stderr (None: on a
        terminal only). Raises `InputError` for a model without pooling settings, `TokenizerError` for one
        without a tokenizer.
        """
        from rlxflow.runtime.embed import embed

        return embed(self, texts, batch_size, normalize, progress, prompt_name)

    def embed_images(
        self,
        images: Sequence[Any] | Any,
        *,
        batch_size: int = 8,
        normalize: bool = False,
        progress: bool | None = None,
    ) -> Array:
        """Embeddings of images, float32 [n, d]: the output `embedding` of a vision encoder.

        An image is a path, a Pillow image or an array uint8 [height, width, 3]; each is turned to RGB, then
        resized, cut and normalised as the model's preprocessor_config.json says. `normalize` makes vectors of
        length 1. Wants Pillow (`pip install "rlxflow[images]"`). Raises `InputError` for a model without such
        settings, and for what is no image.
        """
        from rlxflow.runtime.images import embed_images

        return embed_images(self, images, batch_size, normalize, progress)

    def new_cache(self) -> PromptCache:
        """An empty cache for `generate(…, cache=…)`: a conversation's keys and values, kept between calls."""
        from rlxflow.runtime.prompt_cache import PromptCache

        self.require_decoder()
        return PromptCache(self)

    @overload  # a str is also a sequence of str: of overloads that overlap, the first one counts
    def generate(  # type: ignore[overload-overlap]
        self,
        prompt: Prompt | Request,
        *,
        stream: Literal[False] = ...,
        cache: PromptCache | None = ...,
        speculate: str | None = ...,
        **settings: Unpack[Settings],
    ) -> Generation: ...
    @overload
    def generate(  # type: ignore[overload-overlap]
        self,
        prompt: Prompt | Request,
        *,
        stream: Literal[True],
        cache: PromptCache | None = ...,
        speculate: str | None = ...,
        **settings: Unpack[Settings],
    ) -> Stream[str]: ...
    @overload
    def generate(
        self,
        prompt: Sequence[Prompt | Request],
        *,
        stream: Literal[False] = ...,
        speculate: str | None = ...,
        **settings: Unpack[Settings],
    ) -> list[Generation]: ...
    @overload
    def generate(
        self,
        prompt: Sequence[Prompt | Request],
        *,
        stream: Literal[True],
        speculate: str | None = ...,
        **settings: Unpack[Settings],
    ) -> Stream[tuple[int, str]]: ...
    def generate(
        self,
        prompt: Any,
        *,
        stream: bool = False,
        cache: PromptCache | None = None,
        speculate: str | None = None,
        **settings: Unpack[Settings],
    ) -> Generation | list[Generation] | Stream[str] | Stream[tuple[int, str]]:
        """Continue a text, or answer a list of messages ({"role": …, "content": …}) by the chat template.

        `settings` (max_new_tokens, temperature, top_k, top_p, min_p, repetition_penalty, stop, seed) are the
        fields of `Request`: 256 tokens and greedy where not given. Writing ends at an end-of-text token or a
        stop string (finish_reason "stop"), or at `max_new_tokens` or the model's last position ("length").

        A list of prompts, or of `Request`s with settings of their own, gives a list of results: each is what
        its prompt gives alone. With `stream`, an iterator of pieces that are whole characters (of pairs of a
        prompt's number and a piece for a list); closing it cancels. `cache` (from `new_cache`) keeps what was
        computed for the next call. `speculate="prompt-lookup"` guesses tokens that the text already has and
        checks several in one step: the same text (up to the order of sums), sooner where it repeats itself.

        Raises `InputError` for an encoder (R020), settings out of range, a prompt longer than the model takes
        (R026), and caches that do not fit in memory (R018).
        """
        from rlxflow.runtime.generate import Run, Stream, texts
        from rlxflow.runtime.request import Request, as_requests

        several = as_requests(prompt, settings)
        one = prompt if isinstance(prompt, Request) else Request(prompt, **settings)
        run = Run(self, [one] if several is None else several, cache, speculate)
        if stream:
            return Stream(run, run.pieces()) if several is not None else Stream(run, texts(run))
        return run.finish() if several is not None else run.finish()[0]
