"""`lit-unlearn audit`: ask earlier requests again, check the evidence of a request, or sign it."""

import math
from dataclasses import dataclass
from pathlib import Path

from jsonargparse import ArgumentParser

from lit_unlearn.cli.evaluate import folder_name
from lit_unlearn.cli.parsing import ExamplesFormatter, arguments, make_parser, parse
from lit_unlearn.errors import ChangedError, InputError
from lit_unlearn.evaluation.subjects import Loading
from lit_unlearn.report.evaluation_table import ABSENT, number
from lit_unlearn.requests.audit import Audit, audit
from lit_unlearn.requests.folder import RequestFolder
from lit_unlearn.requests.signature import sign
from lit_unlearn.requests.thresholds import Check
from lit_unlearn.requests.verdict import NOT_MET
from lit_unlearn.requests.verify import verify, verify_digests
from lit_unlearn.utils.paths import local_path
from lit_unlearn.utils.tables import add_row, table, terminal

__all__ = ["Options", "main"]

_EPILOG = """\
examples:
  lit-unlearn audit runs/tuned/model --ledger ledger.jsonl      does the model still not know it?
  lit-unlearn audit model.q4_0.gguf --ledger ledger.jsonl       and the form that is served?
  lit-unlearn audit runs/tuned/model --ledger ledger.jsonl --bits 4
  lit-unlearn audit --verify runs/erase/alice                   is the evidence as it was written?
  lit-unlearn audit --verify dossier --allowed_signers signers --signer anna@example.org
  lit-unlearn audit --sign runs/erase/alice --key ~/.ssh/id_ed25519

exit status: 0 all requests are met, or all evidence is as it was written; 3 something came back,
was changed, is missing, or is signed by another; 2 unusable input.
"""


@dataclass
class Options:
    """Ask the questions of earlier requests again, or check or sign the evidence of one.

    With `--ledger`, the model answers the questions of every request of the ledger. Each figure is
    compared with the threshold and the figure of that time, and what came back is named. With
    `--verify`, all digests of a request's evidence are checked, and its signature.

    Args:
        model: The model.
        ledger: Ledger of the requests.
        verify: Folder of a request, or a copy of its manifest, dossier and signature.
        sign: Folder of a request whose manifest is signed.
        key: File of an SSH key, or name of a GPG key, for `--sign`.
        allowed_signers: File with a line `NAME KEY` for each signer, for SSH signatures.
        signer: Name of the person who should have signed; null for anyone.
        output: Folder for audit.json and the replies; null takes runs/audit/<model>, and with
            `bits` runs/audit/<model>--<bits>bit.
        bits: Round the weights to this many bits first (8, 4), as quantised serving does.
        batch_size: Probes per forward pass; figures do not depend on it.
    """

    model: str | None = None
    ledger: Path | None = None
    verify: Path | None = None
    sign: Path | None = None
    key: str | None = None
    allowed_signers: Path | None = None
    signer: str | None = None
    output: Path | None = None
    bits: int | None = None
    batch_size: int = 16


def main(args: list[str]) -> None:
    """Run the command; the status is `NOT_MET` if something came back or was changed."""
    given = parse(_parser(), args[1:])
    options, loading = Options(**arguments(Options, given)), Loading(**arguments(Loading, given))
    named = [n for n in ("ledger", "verify", "sign") if getattr(options, n) is not None]
    if len(named) != 1:
        raise InputError(
            "audit: expected one of --ledger, --verify and --sign, found "
            f"{' and '.join(f'--{name}' for name in named) or 'none'}; see lit-unlearn audit --help"
        )
    if options.sign is not None:
        _sign(options.sign, options.key)
        return
    done = _ledger(options, loading) if options.verify is None else _verify(options)
    if not done:
        raise SystemExit(NOT_MET)


def _parser() -> ArgumentParser:
    parser = make_parser("audit", formatter_class=ExamplesFormatter, epilog=_EPILOG)
    text = (
        "Hub id, local folder or .gguf file; also a fine-tuned or quantised model. With --verify "
    )
    text += "it is optional: a model that should be the one of the evidence."
    parser.add_argument("model", nargs="?", help=text)
    parser.add_class_arguments(Options, skip={"model"})
    parser.add_class_arguments(Loading)
    parser.set_defaults(dtype="auto")  # as in the evaluations of `erase`
    return parser


def _sign(folder: Path, key: str | None) -> None:
    if key is None:
        raise InputError("--key: expected an SSH key's file or a GPG key's name, found none")
    manifest = RequestFolder(local_path(folder)).manifest
    changed = [each for each in verify_digests(folder) if not each.is_sound]
    if changed:
        raise ChangedError(
            f"Folder {folder} should be as it was written before it is signed. Found "
            f"{changed[0].part} {changed[0].state}; restore it."
        )
    terminal().print(f"signature: {sign(manifest, key)}", soft_wrap=True)


def _verify(options: Options) -> bool:
    """Print the state of each part of the evidence; return whether it is sound."""
    allowed = None if options.allowed_signers is None else local_path(options.allowed_signers)
    found = verify(options.verify or "", options.model, allowed, options.signer)
    made = table("evidence", ["part", "state", ""], left=3)
    for each in found:
        add_row(made, [each.part, each.state, each.note], "" if each.is_sound else "bold red")
    terminal().print(made)
    unsound = [each for each in found if not each.is_sound]
    for each in unsound:
        terminal().print(f"{each.part}: {each.state}", soft_wrap=True)
    return not unsound


def _ledger(options: Options, loading: Loading) -> bool:
    """Ask all requests, print the result, and return whether all are met."""
    if options.model is None or options.ledger is None:
        raise InputError("model: expected a model for --ledger, found none")
    rounded = "" if options.bits is None else f"--{options.bits}bit"
    found = audit(
        options.model,
        options.ledger,
        output=options.output or f"runs/audit/{folder_name(options.model)}{rounded}",
        bits=options.bits,
        batch_size=options.batch_size,
        loading=loading,
    )
    _show(found)
    return found.is_met


def _show(found: Audit) -> None:
    """Print the figures of all requests, then what came back and what could not be asked."""
    made = table(
        f"requests on {found.model}",
        ["request", "figure", "bound", "then", "now", "state"],
        left=3,
        caption="in brackets 95 % intervals",
    )
    for request in found.requests:
        back = {check.name for check in request.came_back}
        for then, check in zip(request.then, request.checks, strict=False):
            state = _change(check) if check.name in back else check.outcome
            cells = [request.entry.request, check.name, check.bound, _number(then["value"])]
            add_row(made, [*cells, _interval(check), state], "" if check.met else "bold red")
        made.add_section()
    console = terminal()
    if made.row_count:
        console.print(made)
    for request in found.requests:
        name = request.entry.request
        if request.problem:
            console.print(f"{name}: not asked: {request.problem}", soft_wrap=True)
        for check in request.came_back:
            then = next(each for each in request.then if each["figure"] == check.name)
            console.print(
                f"{name}: {check.name} {_change(check)}: {_number(then['value'])} then, "
                f"{_interval(check)} now; {check.bound}{_because(check)}",
                soft_wrap=True,
            )
    if found.folder is not None:
        console.print(f"files: {found.folder}", soft_wrap=True)


def _change(check: Check) -> str:
    """Say what happened to a figure that met its threshold then, and does not now."""
    kept = check.name.startswith(("balance/", "boundary/", "readability/"))
    return "is no longer met" if kept else "came back"


def _number(value: float | None) -> str:
    return ABSENT if value is None or math.isnan(value) else number(value)


def _interval(check: Check) -> str:
    ends = [end for end in (check.low, check.high) if end is not None]
    return f"{_number(check.value)}{f' [{_number(ends[0])}, {_number(ends[-1])}]' if ends else ''}"


def _because(check: Check) -> str:
    """Return why a figure was not measured, in brackets; empty if it was."""
    return f" ({check.note})" if check.note and check.outcome == "not measured" else ""
