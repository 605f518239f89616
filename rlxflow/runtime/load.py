"""`load`: from a directory, a GGUF file or a hub id to a model."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rlxflow.errors import RlxError, WeightsError
from rlxflow.garbage import uncollected
from rlxflow.runtime.hub import resolve
from rlxflow.runtime.model import Model
from rlxflow.runtime.model_files import ModelFiles, model_files
from rlxflow.runtime.progress import bar

if TYPE_CHECKING:
    from rlxflow.flow.recipe import ModelRecipe
    from rlxflow.profile.model import CompileProfile
    from rlxflow.runtime.kept_program import KeptProgram


@uncollected()  # what is read stays
def load(
    path: str | os.PathLike[str],
    profile: str | CompileProfile | None = None,
    recipe: str | ModelRecipe | None = None,
    progress: bool | None = None,
) -> Model:
    """A model from a Hugging Face directory, a GGUF file, or a hub id that is in the local cache.

    `profile` names a preset, a *.rlx.toml file or is an object. Without one it is "exact", plain f32 and the
    slowest; "encoder" and "decode" are faster, and `model.profile.trades()` tells what that costs. `recipe`
    overrides the `model_type` of the config; `progress` shows a bar on stderr (None: on a terminal only).
    Headers of weights are checked against the model, and its size against the free memory, before any data
    is read; then all of it is. Raises an `RlxError` that says what is wrong with which file; there is no
    half-loaded model.
    """
    files = model_files(resolve(path))
    name = Path(os.fsdecode(path)).name
    kept_as = _program_name(files, profile) if recipe is None else None
    try:
        if kept_as is not None:
            from rlxflow.runtime.kept_program import find_program

            program = find_program(kept_as, files)
            if program is not None:
                return _started(name, files, profile, program, progress)
        return _compiled(name, files, profile, recipe, progress, kept_as)
    except MemoryError as error:
        hint = "use a smaller or more strongly quantised model, or close other programs"
        raise WeightsError(
            "the weights do not fit in memory", code="RLX-W036", where=files.where, hint=hint
        ) from error


def _program_name(files: ModelFiles, profile: str | CompileProfile | None) -> str | None:
    """The name of the model's program on disk; None where there is no LLVM, and for what is refused later."""
    try:
        from rlxflow.runtime.kept_program import program_name

        return program_name(files, profile)
    except (ImportError, OSError, RuntimeError, RlxError):
        return None


def _compiled(
    name: str,
    files: ModelFiles,
    profile: str | CompileProfile | None,
    recipe: str | ModelRecipe | None,
    progress: bool | None,
    kept_as: str | None,
) -> Model:
    """The model made from its files; its program is kept under a name."""
    from rlxflow.runtime.assemble import assemble
    from rlxflow.runtime.compile import compile_graph

    model = assemble(name, files, profile, recipe)
    on_one = None
    if kept_as is not None:
        from rlxflow.runtime.kept_program import keep

        on_one = partial(keep, kept_as, model)
    with bar(model.built.report.nbytes, "loading", progress, unit="B") as advance:
        # compiles, and reads the weights; nothing before has
        model.__dict__["executable"] = compile_graph(model.built, on_read=advance, on_one=on_one)
    return model


def _started(
    name: str,
    files: ModelFiles,
    profile: str | CompileProfile | None,
    program: KeptProgram,
    progress: bool | None,
) -> Model:
    """The model of a program that was kept."""

    def again() -> Model:
        from rlxflow.runtime.assemble import assemble

        return assemble(name, files, profile)

    tokenizer = files.tokenizer
    if tokenizer is not None:
        tokenizer.check_rows(program.vocab_size)
    with bar(program.stored, "loading", progress, unit="B") as advance:
        executable = program.start(files, advance)
    return Model.started(
        again,
        name=name or files.config["model_type"],
        tokenizer=tokenizer,
        embedding=files.embedding,
        chat_template=files.chat_template,
        files=files,
        images=None,
        executable=executable,
        inputs=program.inputs,
        signature=program.graph,
        max_positions=program.max_positions,
    )
