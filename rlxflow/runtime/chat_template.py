"""Chat templates: where a model keeps its template, and messages to prompt text, in a sandbox."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from rlxflow.errors import TokenizerError, WeightsError, printable
from rlxflow.runtime.chat_messages import plain_messages, plain_tools
from rlxflow.weights.file_bytes import FileBytes
from rlxflow.weights.json_file import read_json

MAX_TEMPLATE = 128 << 10
_PLAIN = "give the prompt as a plain string"


def find_chat_template(directory: Path) -> str | None:
    """The chat template in a Hugging Face model directory, or None.

    Looked for, in HF's order, in chat_template.jinja, chat_template.json and tokenizer_config.json; of a list
    of named templates the one named "default". Raises `TokenizerError` T031 for a malformed one.
    """
    path = directory / "chat_template.jinja"
    if path.exists():
        return _text(path)
    for name in ("chat_template.json", "tokenizer_config.json"):
        path = directory / name
        if not path.exists():
            continue
        content = read_json(path, what="chat template", error=TokenizerError, code="RLX-T031")
        found = content.get("chat_template") if isinstance(content, Mapping) else None
        if found is not None:
            return _named(found, path)
    return None


def render_chat(
    template: str | None,
    messages: Sequence[Mapping[str, Any]],
    *,
    bos_token: str | None = None,
    eos_token: str | None = None,
    add_generation_prompt: bool = True,
    tools: Sequence[Mapping[str, Any]] | None = None,
) -> str:
    """The prompt text for `messages`, as HF's `apply_chat_template` renders it.

    The text has its special tokens written out: tokenise it with `add_special_tokens=False`. Raises
    `TokenizerError`: T030 no template, T031 malformed, T032 it fails, T033 it refuses (its own words), T034 a
    limit (2 s, a million steps, 4 Mi characters), T035 forbidden access, T036 messages of the wrong form.
    """
    if template is None:
        hint = f"{_PLAIN}; base models have no template"
        raise TokenizerError(
            "the model has no chat template", code="RLX-T030", where="chat template", hint=hint
        )
    if not isinstance(template, str) or len(template) > MAX_TEMPLATE:
        _malformed(f"is not text of at most {MAX_TEMPLATE:,} characters", "chat template")
    variables: dict[str, Any] = {
        "messages": plain_messages(messages, template),
        "tools": plain_tools(tools),
        "documents": None,
        "add_generation_prompt": add_generation_prompt,
    }
    tokens = {"bos_token": bos_token, "eos_token": eos_token}
    variables |= {name: token for name, token in tokens.items() if token is not None}
    return _render(template, variables)


def _render(template: str, variables: dict[str, Any]) -> str:
    from jinja2.exceptions import SecurityError, TemplateSyntaxError

    from rlxflow.runtime.chat_limits import LimitExceeded
    from rlxflow.runtime.chat_sandbox import TemplateRefusal, render

    try:
        return render(template, variables)
    except LimitExceeded as error:
        _fail("T034", f"was stopped at {error}", f"the template is not sound; {_PLAIN}", error)
    except (RecursionError, MemoryError) as error:
        _fail(
            "T034", "was stopped: nested too deep or too large", f"the template is not sound; {_PLAIN}", error
        )
    except TemplateRefusal as error:
        _fail("T033", f"refuses the messages: {error}", f"change the messages as it asks, or {_PLAIN}", error)
    except SecurityError as error:
        _fail("T035", f"tried what is forbidden: {error}", f"do not trust this model; {_PLAIN}", error)
    except (TemplateSyntaxError, SyntaxError) as error:
        _malformed(f"is malformed at line {error.lineno}: {error}", f"chat template:{error.lineno}", error)
    except Exception as error:  # a template can raise anything
        problem = f"failed: {type(error).__name__}: {error}"
        _fail("T032", problem, f"the messages may lack what it needs; or {_PLAIN}", error)


def _named(found: Any, path: Path) -> str:
    """A template, or the default of a list of {"name", "template"}."""
    if isinstance(found, list):
        pairs = [(entry.get("name"), entry.get("template")) for entry in found if isinstance(entry, Mapping)]
        found = dict(pairs).get("default") if len(pairs) == len(found) else None
    if not isinstance(found, str):
        _malformed("is neither text nor a list with one named 'default'", printable(path))
    return found


def _text(path: Path) -> str:
    try:
        file = FileBytes(path)
        if file.size > MAX_TEMPLATE * 4:
            _malformed(f"has {file.size:,} bytes", printable(path))
        return file.read(0, file.size).tobytes().decode("utf-8")
    except (WeightsError, UnicodeDecodeError) as error:
        _malformed(f"cannot be read: {getattr(error, 'message', error)}", printable(path), error)


def _malformed(problem: str, where: str, cause: BaseException | None = None) -> NoReturn:
    hint = f"the template is damaged or of another engine; {_PLAIN}"
    raise TokenizerError(
        f"the chat template {printable(problem)}", code="RLX-T031", where=where, hint=hint
    ) from cause


def _fail(code: str, problem: str, hint: str, cause: BaseException) -> NoReturn:
    raise TokenizerError(
        f"the chat template {printable(problem, 400)}", code=f"RLX-{code}", where="chat template", hint=hint
    ) from cause
