"""One-line messages for failures of a command that are not faults of the package."""

import traceback
from collections.abc import Iterator
from types import TracebackType

from lit_unlearn.errors import InputError
from lit_unlearn.utils.disk import refusal

__all__ = ["causes", "foreign_line", "one_line"]

_OWN = __name__.partition(".")[0]
_NO_MEMORY = "DefaultCPUAllocator: can't allocate"
_COMPUTING = ("lightning.pytorch.loops", "torch.nn.modules.module", "torch.autograd")
"""Modules of libraries that call this package while a model computes."""


def foreign_line(error: BaseException) -> str | None:
    """Return one line for an error of the input, the system or a library during set-up.

    The result is None for an error that needs a traceback: one that this package raised, or one
    that occurred while a model was computing.
    """
    chain = list(causes(error))
    known = [_known(each) for each in chain]
    if any(known):
        return next(line for line in known if line)
    root = chain[-1]
    modules = _modules(root.__traceback__)
    own_fault = not modules or modules[-1].partition(".")[0] == _OWN
    passed = {module for each in chain for module in _modules(each.__traceback__)}
    if own_fault or any(module.startswith(_COMPUTING) for module in passed):
        return None
    library = modules[-1].partition(".")[0]
    return f"{library}: {type(root).__name__}: {one_line(root).rstrip('.')}; --debug shows where"


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and its causes, the first cause last."""
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__


def one_line(error: BaseException) -> str:
    """Return the message of an error without line breaks."""
    return " ".join(str(error).split()) or type(error).__name__


def _known(error: BaseException) -> str | None:
    """Return the message of an error with a known repair."""
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, ModuleNotFoundError):
        name = str(error.name or "").partition(".")[0]
        hint = f"; run: pip install {name}" if name and name != _OWN else ""
        return f"a package is missing: {one_line(error)}{hint}"
    kinds = {cls.__name__ for cls in type(error).__mro__}  # torch's for a GPU, and for the CPU
    if kinds & {"MemoryError", "OutOfMemoryError"} or _NO_MEMORY in str(error):
        return (
            f"not enough memory: {one_line(error)}; set data.micro_batch_rows to fewer rows, or "
            "see what `lit-unlearn plan` proposes"
        )
    refused = refusal(error) if isinstance(error, Exception) else None
    if refused is not None:
        file = getattr(error, "filename", None) or getattr(error.__context__, "filename", None)
        return f"{file or 'a file cannot be written'}: {refused}"
    if isinstance(error, OSError):
        return one_line(error) if error.filename is None else f"{error.filename}: {error.strerror}"
    return None


def _modules(trace: TracebackType | None) -> list[str]:
    """Return the module of every frame of a traceback, the innermost last."""
    frames = (frame for frame, _ in traceback.walk_tb(trace))
    return [str(frame.f_globals.get("__name__", "")) for frame in frames]
