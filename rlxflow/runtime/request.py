"""What is asked of `generate`: a prompt and how to continue it, checked and made into token ids."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

from rlxflow.errors import InputError, nearest, printable
from rlxflow.quick_dataclass import dataclass
from rlxflow.runtime.chat_template import render_chat
from rlxflow.runtime.inputs import is_count
from rlxflow.runtime.sampling import Sampler

if TYPE_CHECKING:
    from rlxflow.runtime.model import Model
    from rlxflow.runtime.tokenizer import Tokenizer

Prompt = str | Sequence[Mapping[str, Any]]


class Settings(TypedDict, total=False):
    """The keywords of `Model.generate` that say how to continue; see `Request` for what they mean."""

    max_new_tokens: int
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repetition_penalty: float
    stop: str | Iterable[str]
    seed: int | None


@dataclass(frozen=True)
class Request:
    """A prompt with settings of its own, for `Model.generate` on several at once.

    `prompt` is a text, taken as it stands, or messages ({"role": …, "content": …}) for the chat template.
    Temperature 0 is greedy; it, `top_k`, `top_p`, `min_p`, `repetition_penalty` and `seed` are those of
    `Sampler`. Writing ends at an end-of-text token or before a stop string, or after `max_new_tokens`.
    """

    prompt: Prompt
    max_new_tokens: int = 256
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    stop: str | Iterable[str] = ()
    seed: int | None = None

    def sampler(self) -> Sampler:
        """Raises `InputError` (R030) for a setting outside its range."""
        return Sampler(
            self.temperature, self.top_k, self.top_p, self.min_p, self.repetition_penalty, self.seed
        )

    def stops(self) -> tuple[str, ...]:
        """The stop strings; raises `InputError` (R025) for what is none."""
        several = isinstance(self.stop, Iterable) and not isinstance(self.stop, str)
        texts: tuple[Any, ...] = tuple(self.stop) if several else (self.stop,)
        for text in texts:
            if not isinstance(text, str) or not text:
                shown = printable(repr(text), 40)
                message = f"a stop string is {shown}"
                raise InputError(message, code="RLX-R025", where="stop=", hint="give non-empty strings")
        return texts

    def limit(self, model: Model, num_prompt_tokens: int) -> int:
        """How many tokens may be written before the model's last position.

        Raises `InputError`: R024 for a number of new tokens that is not a count, R026 for too long a prompt.
        """
        count = self.max_new_tokens
        if not is_count(count):
            hint = "give an integer of 0 or more"
            message = f"max_new_tokens is {printable(repr(count), 40)}"
            raise InputError(message, code="RLX-R024", where="max_new_tokens=", hint=hint)
        last = model.max_positions
        if last is None:
            return int(count)
        if num_prompt_tokens > last:
            message = f"the prompt has {num_prompt_tokens} tokens, the model takes {last}"
            raise InputError(message, code="RLX-R026", where=model.name, hint="shorten the prompt")
        return min(int(count), last - num_prompt_tokens)


def prompt_ids(model: Model, tokenizer: Tokenizer, prompt: Any) -> list[int]:
    """A text as it stands, or messages through the chat template (which writes its own special tokens)."""
    if isinstance(prompt, str):
        ids = tokenizer.encode(prompt)
    elif isinstance(prompt, Sequence) and all(isinstance(message, Mapping) for message in prompt):
        special = tokenizer.special
        text = render_chat(
            model.chat_template, prompt, bos_token=special.bos or "", eos_token=special.eos or ""
        )
        ids = tokenizer.encode(text, add_special_tokens=False)
    else:
        raise InputError(
            f"a prompt is {printable(repr(prompt), 40)}",
            code="RLX-R028",
            where=model.name,
            hint="give a text, or a list of messages; token ids go to model(input_ids=…)",
        )
    if not ids:
        message = "the prompt has no tokens"
        raise InputError(message, code="RLX-R027", where=model.name, hint="give some text")
    return ids


def as_requests(prompt: object, settings: Settings) -> list[Request] | None:
    """The requests of a list of prompts; None where `prompt` is one prompt.

    A list of messages is one prompt; a list of texts, of lists of messages or of requests is several.
    Requests keep their own settings, all other prompts get `settings`. Raises `InputError` (R034) for a
    setting that does not exist, and for settings beside requests alone, which none of them would get.
    """
    for name in settings:
        if name not in Settings.__annotations__:
            hint = nearest(name, Settings.__annotations__) or f"known: {', '.join(Settings.__annotations__)}"
            raise InputError(f"there is no setting {name!r}", code="RLX-R034", where=f"{name}=", hint=hint)
    prompts = prompt if isinstance(prompt, Sequence) else (prompt,)
    if settings and prompts and all(isinstance(item, Request) for item in prompts):
        name = next(iter(settings))
        message = f"{name} is given beside requests, which have settings of their own"
        raise InputError(message, code="RLX-R034", where=f"{name}=", hint=f"write Request(…, {name}=…)")
    if isinstance(prompt, str | Mapping) or not isinstance(prompt, Sequence) or not prompt:
        return None
    if isinstance(prompt[0], Mapping) or not isinstance(prompt[0], str | Sequence | Request):
        return None
    return [item if isinstance(item, Request) else Request(item, **settings) for item in prompt]
