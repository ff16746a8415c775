"""Names of a suite's figures, computed without a model."""

import warnings
from pathlib import Path

from lit_unlearn.evaluation.probes import Forced, Outcome, Probe, Reference, Suite

__all__ = ["figure_names"]

_PACKAGE = __name__.partition(".")[0]
_LIKELY = Forced((-0.5, -0.1), (True, True), (-2.0, -2.5), (1.0, 1.5))
_UNLIKELY = Forced((-3.0, -4.0), (False, False), (-1.0, -1.5), (0.5, 1.0))


def figure_names(
    suite: Suite, data_root: Path | None = None, reference: Reference = None
) -> set[str] | None:
    """Return the names of a suite's figures, by scoring made-up outcomes.

    The result is None if the names depend on a model.
    """
    asks_alone = type(suite).variants is Suite.variants and not suite.answer_key()
    if not asks_alone or not type(suite).__module__.startswith(_PACKAGE):
        return None
    try:
        probes = suite.probes(data_root)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # made-up scores have no variance
            return {
                figure.name
                for knows in (True, False)  # a model that knows every answer, and one that does not
                for outcomes in [[_outcome(probe, knows=knows) for probe in probes]]
                for figure in suite.score(probes, {"": outcomes}, reference).figures
            }
    except Exception:  # a suite may refuse made-up outcomes
        return None


def _outcome(probe: Probe, *, knows: bool) -> Outcome:
    forced = dict.fromkeys(probe.candidates, _LIKELY if knows else _UNLIKELY)
    accepted = probe.example.accepted
    reply = (accepted[0] if accepted else probe.example.answer) if knows else ""
    samples = probe.generation.samples if probe.generation is not None else 0
    return Outcome(probe.probe_id, forced, (reply,) * samples)
