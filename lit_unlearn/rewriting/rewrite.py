"""Rewrite rows of any domain as stand-alone questions and answers with anchors."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from rich.console import Console

from lit_unlearn.data.places import resolve
from lit_unlearn.data.raw_rows import OnBadRow
from lit_unlearn.data.sources import Source
from lit_unlearn.errors import InputError
from lit_unlearn.rewriting.backends import Backend, Rules
from lit_unlearn.rewriting.drafts import RewriteResult, RowSettings
from lit_unlearn.rewriting.estimate import estimate, first_asks, planned, unanswered
from lit_unlearn.rewriting.journal import Journal
from lit_unlearn.rewriting.output import result_files, row_counts, write_result
from lit_unlearn.rewriting.pipeline import Rewriter
from lit_unlearn.rewriting.prompts import Ask
from lit_unlearn.rewriting.questioner import Asker
from lit_unlearn.rewriting.source_texts import SourceText, read_texts
from lit_unlearn.utils.ownership import check_targets
from lit_unlearn.utils.paths import local_path

__all__ = ["Foresee", "RewriteSettings", "rewrite"]


@dataclass(frozen=True, kw_only=True)
class RewriteSettings(RowSettings):
    """Sources, model and output of `rewrite`, and the settings that decide the rows.

    Args:
        backend: `Rules` needs no model; `LocalModel` is a chat model on this machine, `Server` any
            server with OpenAI's protocol (settings: --backend.help CLASS).
        forget: Sources of rows to forget, which get anchors.
        keep: Sources of rows to keep.
        output: Output folder.
        data_root: Folder that is read instead of the hub; null reads the environment variable
            LIT_UNLEARN_DATA.
        on_bad_row: Stop at the first row that cannot be used, or skip such rows with a warning.
        dry_run: Print the estimated calls, or the number of rows by rule, and stop.

    Raises:
        InputError: There are no sources, or a number is out of its range.
    """

    backend: Backend
    forget: list[Source] = field(default_factory=list)
    keep: list[Source] = field(default_factory=list)
    output: Path = Path("runs/rewrite")
    data_root: Path | None = None
    on_bad_row: OnBadRow = "error"
    dry_run: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.forget and not self.keep:
            raise InputError(
                "Parameters `forget` and `keep` should name sources of rows to forget or to keep. "
                "Found neither; give one of them."
            )


Foresee = Callable[[Backend, Sequence[tuple[Ask, int]]], None]
"""Callback that gets the model, and its unanswered requests, each with its number."""


def rewrite(
    settings: RewriteSettings, console: Console | None = None, foresee: Foresee | None = None
) -> RewriteResult:
    """Turn rows of any domain into stand-alone questions and answers, and make anchors.

    Writes forget.jsonl, keep.jsonl and anchors.jsonl, which `data.objectives.*.sources` of `fit`
    reads with `domain: question_answer`; rejected.jsonl with reasons; report.html and report.json.
    Every reply of the model is stored in journal.jsonl, so that a run that was stopped resumes when
    it is started again.

    Args:
        settings: All settings.
        console: Console for progress and the estimate of the calls; None shows nothing.
        foresee: Called before the first question.

    Returns:
        All rows and the files. A dry run returns only rows by rule, and no files.

    Raises:
        InputError: Rows or a model that cannot be used.
    """
    console = console or Console(quiet=True)
    output = local_path(settings.output)
    if not settings.dry_run:
        check_targets(output, result_files(output), _read(settings), "--output")
    how = (settings.data_root, settings.on_bad_row, settings.passage_words, settings.questions)
    forget, keep = (read_texts(each, *how) for each in (settings.forget, settings.keep))
    if isinstance(settings.backend, Rules):
        result = Rewriter(settings, None).run(forget, keep)
        if settings.dry_run:
            console.print(f"rules: no calls; rows: {row_counts(result)}", highlight=False)
    else:
        result = _by_model(settings, forget, keep, console, foresee)
    if settings.dry_run:
        return result
    facts = {
        "backend": settings.backend.name,
        "sources": {
            part: list(map(asdict, getattr(settings, part))) for part in ("forget", "keep")
        },
        "settings": settings.row_settings(),
    }
    return replace(result, files=write_result(output, result, facts))


def _read(settings: RewriteSettings) -> list[Path]:
    sources = [*settings.forget, *settings.keep]
    places = [resolve(source, settings.data_root) for source in sources]
    found = [path for place in places for path in (place.file, place.folder)]
    model = local_path(getattr(settings.backend, "path", None) or ".missing")
    return [path for path in (*found, model) if isinstance(path, Path) and path.exists()]


def _by_model(
    settings: RewriteSettings,
    forget: Sequence[SourceText],
    keep: Sequence[SourceText],
    console: Console,
    foresee: Foresee | None,
) -> RewriteResult:
    """Print an estimate and ask the model; a new run first measures its speed."""
    backend = settings.backend
    first = first_asks([*forget, *keep], settings)[: backend.parallel]
    with Journal(local_path(settings.output)) as journal:
        asker = Asker(backend, journal, settings.attempts, console)
        asks = planned(forget, keep, settings)
        if foresee is not None:
            foresee(backend, unanswered(asks, asker))
        if first and not asker.known() and not settings.dry_run:
            asker.answers("first replies", first)
        line = f"{backend.name}: {estimate(asks, asker)}"
        console.print(line, highlight=False, markup=False, soft_wrap=True)
        if settings.dry_run:
            return RewriteResult([], [], settings)
        return Rewriter(settings, asker).run(forget, keep)
