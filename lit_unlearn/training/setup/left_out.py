"""Reports of rows that preparation left out, and of rows that exist only with their prefill."""

import logging
from collections.abc import Mapping, Sequence

from lit_unlearn.data.encoding import Encoder
from lit_unlearn.data.objective_data import ObjectiveData
from lit_unlearn.errors import InputError
from lit_unlearn.training.setup.views import Candidates
from lit_unlearn.types import EncodedExample, Example

__all__ = ["EncodedRows", "report_problems", "report_without_bare"]

log = logging.getLogger(__name__)

EncodedRows = Mapping[str, Sequence[Sequence[EncodedExample]]]
"""Objective -> row -> candidates: one, one per prefill, or preferred and rejected answer."""


def report_problems(
    encoded: EncodedRows, examples: Mapping[str, Sequence[Example]], encoder: Encoder
) -> None:
    """Warn of rows that were left out; raise an error for an objective without any row left."""
    counted = ", ".join(f"{kind}: {count}" for kind, count in encoder.problems.items())
    if counted:
        log.warning("Rows with problems while encoding (on_problem: warn): %s.", counted)
    for name, rows in encoded.items():
        if not rows:
            raise InputError(
                f"Objective {name!r} should keep rows. Found all {len(examples[name])} left out "
                f"while encoding ({counted}); raise `data.max_length`, or see `on_problem: error`."
            )


def report_without_bare(encoded: EncodedRows, objectives: Mapping[str, ObjectiveData]) -> None:
    """Warn of prefilled rows to be declined that have no version without the prefill.

    Only candidates that are encoded by now are counted.
    """
    for name, rows in encoded.items():
        known = [row.known() if isinstance(row, Candidates) else row for row in rows]
        prefilled = [candidate for row in known for candidate in row if candidate.prefill]
        lost = sum(not candidate.unprefilled_ids for candidate in prefilled)
        if lost and objectives[name].expect == "decline":
            log.warning(
                "Objective %r: %d of %d encoded rows with a prefill have no version without it, "
                "because their answer has other tokens there. Where the teacher "
                "complies after the prefill, these rows teach that; other `refusals` may help.",
                *(name, lost, len(prefilled)),
            )
