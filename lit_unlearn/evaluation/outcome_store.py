"""Outcomes on disk, from which a stopped evaluation resumes."""

from dataclasses import asdict
from typing import Any

from lit_unlearn.evaluation.probes import Forced, Outcome, Probe
from lit_unlearn.utils.append_log import AppendLog
from lit_unlearn.utils.digests import json_digest

__all__ = ["ENGINE_VERSION", "FILE_NAME", "Store", "content_key"]

ENGINE_VERSION = 1
"""Version of the engine; increased if a model's outcome for the same probe changes."""

FILE_NAME = "outcomes.jsonl"


def content_key(fingerprint: str, variant: str, probe: Probe, answer_key: str = "") -> str:
    """Return the key of an outcome: a SHA-256 digest of everything that decides it.

    The id of a probe does not count, and its row counts only if `answer_key` (`Suite.answer_key`)
    is not empty. `variant` is the name and key of the variant.
    """
    turns = [asdict(turn) for turn in probe.turns]
    asked = (turns, probe.plain, probe.prefill, dict(probe.candidates))
    reply = None if probe.generation is None else asdict(probe.generation)
    row = asdict(probe.example) if answer_key else None
    cut = ["cut"] if probe.cut else []
    return json_digest([ENGINE_VERSION, fingerprint, variant, *asked, reply, answer_key, row, *cut])


class Store(AppendLog[Outcome]):
    """The outcomes in one folder, by their `content_key`."""

    file_name = FILE_NAME
    user = "evaluation"

    def encode(self, value: Outcome) -> dict[str, Any]:
        forced = {
            name: [f.log_probs, [int(hit) for hit in f.hits], f.means, f.deviations]
            for name, f in value.forced.items()
        }
        states = {"states": dict(value.states)} if value.states else {}
        kept = {"probe_id": value.probe_id, "replies": list(value.replies), "forced": forced}
        return kept | states

    def decode(self, fields: dict[str, Any]) -> Outcome:
        forced = {
            name: Forced(tuple(log_probs), tuple(map(bool, hits)), tuple(means), tuple(deviations))
            for name, (log_probs, hits, means, deviations) in fields["forced"].items()
        }
        states = fields.get("states", {})
        return Outcome(fields["probe_id"], forced, tuple(fields["replies"]), states)
