"""The command `lit-unlearn`: finds and runs a subcommand.

Standard library only, and nothing of the package is imported before a subcommand is known, so that
help, version and typing errors answer at once (importing torch and Lightning takes seconds).
"""

from __future__ import annotations

import os
import select
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple

from lit_unlearn.errors import did_you_mean
from lit_unlearn.utils.threads import settle_threads

PROGRAM = "lit-unlearn"
DEBUG, DEBUG_VARIABLE = "--debug", "LIT_UNLEARN_DEBUG"
"""Option and environment variable with which every error shows its traceback."""
_REPORT = (
    f"{PROGRAM}: this should not happen. If no class of yours is in the traceback, please report "
    "it as an issue, with the traceback, the command and its config."
)


class Command(NamedTuple):
    """One subcommand."""

    help: str
    """One line for ``lit-unlearn --help``."""
    where: str
    """``module:function``; the function takes the arguments, the subcommand's name first."""


COMMANDS = {
    "fit": Command("train a model to forget, as a config says", "lit_unlearn.cli.fit:main"),
    "erase": Command(
        "carry out a request to forget, and decide if it is met", "lit_unlearn.cli.erase:main"
    ),
    "sweep": Command(
        "train with several seeds or settings, each in its own run", "lit_unlearn.cli.sweep:main"
    ),
    "validate": Command(
        "compute the validation figures of a run's model", "lit_unlearn.cli.fit:main"
    ),
    "test": Command("evaluate the model of a run, as its config says", "lit_unlearn.cli.fit:main"),
    "predict": Command("write a model's replies to questions", "lit_unlearn.cli.fit:main"),
    "evaluate": Command("run benchmarks and attacks on any model", "lit_unlearn.cli.evaluate:main"),
    "compare": Command("compare evaluations row by row", "lit_unlearn.cli.compare:main"),
    "audit-metrics": Command(
        "say which figures of forgetting can be believed", "lit_unlearn.cli.audit_metrics:main"
    ),
    "audit": Command(
        "ask earlier requests again, or check the evidence of one", "lit_unlearn.cli.audit:main"
    ),
    "retrain": Command(
        "train a run again without the rows of a request", "lit_unlearn.cli.retrain:main"
    ),
    "rewrite": Command(
        "turn rows of any domain into questions with answers",
        "lit_unlearn.cli.rewrite:main",
    ),
    "interference": Command(
        "measure conflicts between objectives without training",
        "lit_unlearn.cli.interference:main",
    ),
    "plan": Command(
        "compute the memory and time that a run will need", "lit_unlearn.cli.plan:main"
    ),
    "export": Command("write a model as a GGUF file for llama.cpp", "lit_unlearn.cli.export:main"),
    "task-vector": Command(
        "forget without training, by subtracting a task vector", "lit_unlearn.cli.task_vector:main"
    ),
    "consolidate": Command(
        "make one checkpoint file from a folder of slices", "lit_unlearn.cli.consolidate:main"
    ),
    "cache": Command("check and list the teacher caches on disk", "lit_unlearn.cli.cache:main"),
    "methods": Command(
        "list objectives and weightings, or explain some", "lit_unlearn.cli.methods:main"
    ),
    "fetch": Command(
        "download a small model if the hub cannot be reached", "lit_unlearn.cli.fetch:main"
    ),
}


def main(args: Sequence[str] | None = None) -> int:
    """Run one subcommand.

    Args:
        args: The arguments after the program's name; None takes them from the command line.

    Returns:
        The exit status: 0 for success, 1 for a result that must not be used and where the output's
        reader has gone, 2 for unusable input, 3 for a request that is not met or a run that does
        not fit, 130 after an interrupt.
    """
    if args is None and not sys.flags.safe_path:
        sys.path.append("")  # classes of one's own, as with `python -m lit_unlearn`
    given = list(sys.argv[1:] if args is None else args)
    if DEBUG in given:
        given.remove(DEBUG)
        os.environ[DEBUG_VARIABLE] = "1"  # for the processes of a sweep too
    try:
        try:
            return _dispatch(given)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        if not _reader_has_gone():
            raise
        # the interpreter would say so once more when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _reader_has_gone() -> bool:
    """Return whether the output is a pipe without reader, as in `lit-unlearn methods | head -1`."""
    poll = select.poll()
    poll.register(sys.stdout, 0)
    return bool(poll.poll(0))


def _dispatch(given: list[str]) -> int:
    """Answer at once, or run a subcommand; see `main`."""
    if not given or given[0] in ("-h", "--help", "help"):
        print(_help())
        return 0 if given else 2
    if given[0] in ("-V", "--version"):
        from lit_unlearn import __version__

        print(f"{PROGRAM} {__version__}")
        return 0
    if given[0] not in COMMANDS:
        return _fail(_unknown(given[0]))
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")  # bars of libraries; ours become lines
    return run_command(COMMANDS[given[0]], given)


def run_command(command: Command, args: list[str]) -> int:
    """Import and call a subcommand; what is no fault of the package becomes one message."""
    module, function = command.where.split(":")
    settle_threads()
    try:
        getattr(import_module(module), function)(args)
    except BrokenPipeError:
        raise
    except KeyboardInterrupt:
        return _interrupted()
    except SystemExit as stop:  # Lightning turns an interrupt into exit status 1
        if isinstance(stop.__context__, KeyboardInterrupt):
            return _interrupted()
        raise
    except Exception as error:
        from lit_unlearn.cli.failures import foreign_line

        line = foreign_line(error)
        if line is None:
            error.add_note(_REPORT)
            raise
        if os.environ.get(DEBUG_VARIABLE):
            traceback.print_exception(error)
        return _fail(line, getattr(error, "status", 2))
    return 0


def _interrupted() -> int:
    print(f"\n{PROGRAM}: interrupted", file=sys.stderr)
    return 130


def _fail(message: str, status: int = 2) -> int:
    print(f"{PROGRAM}: error: {message}", file=sys.stderr)
    return status


def _unknown(name: str) -> str:
    hint = did_you_mean(name, COMMANDS, otherwise=f"the commands are {', '.join(COMMANDS)}")
    what = "option" if name.startswith("-") else "command"
    return f"unknown {what} {name}; {hint}"


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {command.help}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            f"usage: {PROGRAM} [--help] [--version] [{DEBUG}] COMMAND ...",
            "",
            "Multi-objective unlearning for language models.",
            "",
            "commands:",
            *lines,
            "",
            f"{PROGRAM} COMMAND --help shows the options of one command.",
            f"{DEBUG} (or {DEBUG_VARIABLE}=1) also shows the traceback of an error.",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
