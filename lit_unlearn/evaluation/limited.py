"""Limits on the rows of a suite."""

from collections.abc import Sequence

from lit_unlearn.evaluation.probes import Probe, Probes, Reference
from lit_unlearn.utils.grouping import grouped
from lit_unlearn.utils.spread import evenly_spread

__all__ = ["limited", "same_rows"]


def limited(probes: Sequence[Probe], limit: int | None) -> list[Probe]:
    """Return the probes of at most `limit` rows of each group, spread evenly, in their order.

    A chosen row keeps all its probes, so that its scores are those of the whole suite. The same
    rows are chosen for every model.
    """
    if limit is None:
        return list(probes)
    chosen: set[tuple[str, str]] = set()
    for group, members in grouped(probes, lambda probe: probe.group).items():
        ids = list(dict.fromkeys(probe.example.example_id for probe in members))
        chosen |= {(group, example_id) for example_id in evenly_spread(ids, limit)}
    return [probe for probe in probes if (probe.group, probe.example.example_id) in chosen]


def same_rows(probes: Probes, reference: Reference) -> Reference:
    """Return the rows of a reference that are among the probes."""
    if reference is None:
        return None
    asked = {probe.probe_id for probe in probes}
    return {
        group: [row for row in rows if row.row_id in asked] for group, rows in reference.items()
    }
