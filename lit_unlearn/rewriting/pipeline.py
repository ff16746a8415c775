"""Make rows from texts: rate, write, check by rule and by model, and fall back on rules."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from lit_unlearn.rewriting import prompts
from lit_unlearn.rewriting.drafts import Candidate, Lost, Made, Part, RewriteResult, RowSettings
from lit_unlearn.rewriting.leaks import Forgotten
from lit_unlearn.rewriting.prompts import Ask
from lit_unlearn.rewriting.questioner import Asker
from lit_unlearn.rewriting.rules import form_problem, standalone_problem, support_problem
from lit_unlearn.rewriting.similar import Seen, form, nearest, same_form_problem
from lit_unlearn.rewriting.source_texts import QA, SourceText

__all__ = ["Rewriter"]

FORM, ALONE, SUPPORT = "form", "stand-alone", "grounded"
SAME_FORM, LEAK, MODEL, NEW = "same form", "leak", "model's check", "not seen before"
"""Names of the checks."""
_REFUSED_KEPT = 10
"""Largest number of refused anchors, chosen by rule, that are kept for each row."""


class Rewriter:
    """Pipeline of a run; without an asker all rows are made by rule."""

    def __init__(self, settings: RowSettings, asker: Asker | None) -> None:
        self.settings = settings
        self.asker = asker
        self.lost: list[Lost] = []

    def run(self, forget: Sequence[SourceText], keep: Sequence[SourceText]) -> RewriteResult:
        """Return rows to forget, rows to keep, and anchors for the rows to forget.

        A row to keep or an anchor that repeats a row to forget is refused.
        """
        seen = Seen(self.settings.similar)
        first = _only_new(self._questions("forget", forget), seen)
        second = _only_new(self._questions("keep", keep), seen)
        result = RewriteResult([*first, *second], self.lost, self.settings)
        if self.settings.anchors:
            result.candidates.extend(self._anchors(result))
        return result

    # --------------------------------------------------------------------------------- questions

    def _questions(self, part: Part, texts: Sequence[SourceText]) -> list[Candidate]:
        """Return candidates in the order of their texts, with every check but `NEW`."""
        found = [c for text in texts if text.is_ready for c in self._by_rule(part, text)]
        unwritten = [text for text in texts if not text.is_ready]
        if self.asker is None:
            found += [c for text in unwritten for c in self._by_rule(part, text)]
        else:
            good = self._well_rated(self.asker, part, unwritten)
            written = self._written(self.asker, part, good)
            if self.settings.model_checks:
                asks = [prompts.judge(c.origin, c.qa) for c in written if c.is_accepted]
                written = self._judged(self.asker, part, written, asks)
            found += written
            if self.settings.fall_back:
                done = {c.origin.row_id for c in written if c.is_accepted}
                rest = [text for text in good if text.row_id not in done]
                found += [c for text in rest for c in self._by_rule(part, text)]
        order = {text.row_id: index for index, text in enumerate(texts)}
        return sorted(found, key=lambda c: order[c.origin.row_id])

    def _well_rated(
        self, asker: Asker, part: Part, texts: Sequence[SourceText]
    ) -> list[SourceText]:
        """Return the texts without passages of low rating; a passage without rating stays."""
        lowest = self.settings.lowest_rating
        passages = [text for text in texts if text.domain == "passage"]
        if lowest <= 1 or not passages:
            return list(texts)
        answers = asker.answers(f"{part}: rating", [prompts.rate(p) for p in passages])
        low = {
            passage.row_id
            for passage, answer in zip(passages, answers, strict=True)
            if answer.value is not None and answer.value["rating"] < lowest
        }
        reason = f"rated below {lowest} of 5"
        self.lost += [Lost(part, passage, reason) for passage in passages if passage.row_id in low]
        return [text for text in texts if text.row_id not in low]

    def _written(self, asker: Asker, part: Part, texts: Sequence[SourceText]) -> list[Candidate]:
        count = self.settings.questions
        asks = [prompts.write(text, count) for text in texts]
        found = []
        for text, answer in zip(texts, asker.answers(f"{part}: writing", asks), strict=True):
            if answer.value is None:
                self.lost.append(
                    Lost(part, text, f"no reply of the requested form: {answer.problem}")
                )
                continue
            if not answer.value["pairs"]:
                self.lost.append(Lost(part, text, "the model wrote no question"))
            for number, qa in _pairs(answer.value, count):
                if text.domain == "multiple_choice":
                    known = text.ready[0]
                    qa = replace(qa, accepted=(known.answer,), distractors=known.distractors)
                candidate = Candidate(part, f"{text.row_id}/{number}", qa, text, answer.made)
                found.append(self._checked(candidate))
        return found

    def _by_rule(self, part: Part, text: SourceText) -> list[Candidate]:
        """Return the questions that a rule makes; for a ready row, the row itself."""
        if not text.ready and self.asker is None:
            self.lost.append(Lost(part, text, "no sentence in which a rule finds a question"))
        made = Made("source" if text.is_ready else "rules")
        found = []
        for number, qa in enumerate(text.ready, start=1):
            row_id = text.row_id if text.is_ready else f"{text.row_id}/rule{number}"
            found.append(self._checked(Candidate(part, row_id, qa, text, made)))
        return found

    def _checked(self, candidate: Candidate) -> Candidate:
        """Add all checks by rule to a candidate that is not an anchor."""
        candidate = _with_form(candidate)
        if candidate.made.by != "model":
            return candidate
        evidence = candidate.origin.evidence
        problem = support_problem(candidate.qa, evidence, self.settings.support)
        return candidate.checked(SUPPORT, problem)

    # ----------------------------------------------------------------------------------- anchors

    def _anchors(self, result: RewriteResult) -> list[Candidate]:
        """Return the anchors of the accepted rows to forget, in their order."""
        rows, pool = result.accepted("forget"), result.accepted("keep")
        forgotten = Forgotten((row.qa for row in rows), self.settings.forgotten)
        seen = Seen(self.settings.similar)
        for row in rows:
            seen.add(row.qa.question)
        found: list[Candidate] = []
        if self.asker is not None:
            found = self._written_anchors(self.asker, rows, forgotten)
            if self.settings.model_checks:
                asks = [prompts.confirm(c.qa) for c in found if c.is_accepted]
                found = self._judged(self.asker, "anchors", found, asks)
            found = _only_new(found, seen)
        if self.asker is None or self.settings.fall_back:
            found += self._nearest_anchors(rows, pool, found, forgotten, seen)
        had, wanted = _accepted_anchors(found), self.settings.anchors
        for name, row in ((row.row_id, row) for row in rows if had[row.row_id] < wanted):
            reason = f"fewer anchors than requested: {name} has {had[name]} of {wanted}"
            self.lost.append(Lost("anchors", row.origin, reason))
        order = {row.row_id: index for index, row in enumerate(rows)}
        return sorted(found, key=lambda c: order[c.anchor_of])

    def _written_anchors(
        self, asker: Asker, rows: Sequence[Candidate], forgotten: Forgotten
    ) -> list[Candidate]:
        count = self.settings.anchors
        asks = [prompts.anchor(row.qa, count) for row in rows]
        found = []
        for row, answer in zip(rows, asker.answers("anchors: writing", asks), strict=True):
            if answer.value is None:
                reason = f"no anchors of the requested form: {answer.problem}"
                self.lost.append(Lost("anchors", row.origin, reason))
                continue
            for number, qa in _pairs(answer.value, count):
                row_id = f"{row.row_id}/anchor{number}"
                candidate = Candidate("anchors", row_id, qa, row.origin, answer.made, row.row_id)
                found.append(_checked_anchor(candidate, row.qa, forgotten))
        return found

    def _nearest_anchors(
        self,
        rows: Sequence[Candidate],
        pool: Sequence[Candidate],
        before: Sequence[Candidate],
        forgotten: Forgotten,
        seen: Seen,
    ) -> list[Candidate]:
        """Return anchors for rows that lack some: rows to keep of similar form, each used once.

        Refused anchors are returned too, up to `_REFUSED_KEPT` for each row.
        """
        forms = [form(candidate.qa.question) for candidate in pool]
        had = _accepted_anchors(before)
        used: set[int] = set()
        found = []
        for row in rows:
            lacking, refused = self.settings.anchors - had[row.row_id], 0
            for index in nearest(row.qa.question, forms) if lacking > 0 else ():
                near = pool[index]
                if index in used or seen.find(near.qa.question):
                    continue
                row_id = f"{row.row_id}/anchor/{near.row_id}"
                made = replace(near.made, by="rules")
                anchor = Candidate("anchors", row_id, near.qa, near.origin, made, row.row_id)
                anchor = _checked_anchor(anchor, row.qa, forgotten)
                if anchor.is_accepted:
                    used.add(index)
                lacking -= anchor.is_accepted
                refused += not anchor.is_accepted
                if anchor.is_accepted or refused <= _REFUSED_KEPT:
                    found.append(anchor)
                if not lacking:
                    break
        return found

    # ------------------------------------------------------------------------------------- model

    def _judged(
        self, asker: Asker, part: Part, candidates: Sequence[Candidate], asks: Sequence[Ask]
    ) -> list[Candidate]:
        """Add the model's check to candidates that passed the rules; no verdict means refusal."""
        passed = [index for index, c in enumerate(candidates) if c.is_accepted]
        found = list(candidates)
        answers = asker.answers(f"{part}: checking", asks)
        for index, ask, answer in zip(passed, asks, answers, strict=True):
            denied = [n for n in ask.schema["properties"] if answer.value and not answer.value[n]]
            problem = f"the model says: not {', not '.join(denied)}" if denied else ""
            if answer.value is None:
                problem = f"no verdict: {answer.problem}"
            found[index] = found[index].checked(MODEL, problem)
        return found


def _with_form(candidate: Candidate) -> Candidate:
    """Add the checks by rule that rows and anchors share."""
    qa, written = candidate.qa, candidate.made.by == "model"
    candidate = candidate.checked(FORM, form_problem(qa, written=written))
    return candidate.checked(ALONE, standalone_problem(qa.question))


def _checked_anchor(candidate: Candidate, row: QA, forgotten: Forgotten) -> Candidate:
    qa, candidate = candidate.qa, _with_form(candidate)
    candidate = candidate.checked(SAME_FORM, same_form_problem(qa.question, row.question))
    return candidate.checked(LEAK, forgotten.problem(qa, row))


def _accepted_anchors(candidates: Sequence[Candidate]) -> Counter[str]:
    """Count the accepted anchors of each row to forget."""
    return Counter(c.anchor_of for c in candidates if c.is_accepted)


def _pairs(value: dict[str, Any], most: int) -> Iterator[tuple[int, QA]]:
    """Yield number, question and answer of at most ``most`` pairs of a reply."""
    for number, pair in enumerate(value["pairs"][:most], start=1):
        yield number, QA(pair["question"].strip(), pair["answer"].strip())


def _only_new(candidates: Sequence[Candidate], seen: Seen) -> list[Candidate]:
    """Add the check for repeated questions to candidates that passed the other checks."""
    found = []
    for candidate in candidates:
        if candidate.is_accepted:
            same = seen.find(candidate.qa.question)
            candidate = candidate.checked(NEW, f"it repeats {same!r}" if same else "")
            if not same:
                seen.add(candidate.qa.question)
        found.append(candidate)
    return found
