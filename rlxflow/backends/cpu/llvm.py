"""All contact with LLVM: the host, optimising, machine code, loading it. Nothing else imports the binding."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

import llvmlite
from llvmlite import binding

from rlxflow.backends.cpu.target import Target, choose
from rlxflow.errors import BackendError

VERSION: str = f"llvmlite {llvmlite.__version__}, LLVM {'.'.join(map(str, binding.llvm_version_info))}"


@cache
def _initialize() -> None:
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()


@cache
def host_target(name: str | None = None) -> Target:
    """This machine, or a narrower vector unit of it: "avx512", "avx2", "vector128"."""
    _initialize()
    triple, cpu = binding.get_default_triple(), binding.get_host_cpu_name()
    return choose(triple, cpu, dict(binding.get_host_cpu_features()), name)


def _machine(target: Target) -> Any:
    native = binding.Target.from_default_triple()
    return native.create_target_machine(cpu=target.cpu, features=target.features, opt=2)


def compile_text(text: str, target: Target) -> bytes:
    """Object code of a module in LLVM's text form."""
    _initialize()
    try:
        module = binding.parse_assembly(text)
        module.verify()
    except RuntimeError as error:
        raise BackendError(
            f"the generated code is not valid: {error}", code="RLX-B007", hint="please report this"
        ) from error
    machine = _machine(target)
    # the code is vectorised and unrolled as it should be
    options = binding.create_pipeline_tuning_options(speed_level=2)
    options.loop_vectorization = options.slp_vectorization = False
    options.loop_interleaving = options.loop_unrolling = False
    builder = binding.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    code: bytes = machine.emit_object(module)
    return code


class LoadedCode:
    """Object code in memory. Function addresses are valid as long as this object lives."""

    def __init__(self, code: bytes, target: Target) -> None:
        _initialize()
        self.code = code
        self._engine = binding.create_mcjit_compiler(binding.parse_assembly(""), _machine(target))
        self._engine.add_object_file(binding.ObjectFileRef.from_data(code))
        self._engine.finalize_object()

    def address(self, name: str) -> int:
        """Where the function `name` begins."""
        found: int = self._engine.get_function_address(name)
        if not found:
            raise BackendError(f"no function {name!r}", code="RLX-B007", hint="please report this")
        return found

    def function(self, name: str, *arguments: Any) -> Callable[..., None]:
        """The function `name` as a ctypes call that returns nothing and releases the GIL."""
        return ctypes.CFUNCTYPE(None, *arguments)(self.address(name))
