"""Material -> rows: rated, written, checked by rule and by model, made by rule where all failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from lit_unlearn.rewriting import prompts
from lit_unlearn.rewriting.drafts import Candidate, Lost, Made, Part, RewriteResult, RowSettings
from lit_unlearn.rewriting.leaks import Forgotten
from lit_unlearn.rewriting.material import QA, Material
from lit_unlearn.rewriting.prompts import Ask
from lit_unlearn.rewriting.questioner import Asker
from lit_unlearn.rewriting.rules import form_problem, standalone_problem, support_problem
from lit_unlearn.rewriting.similar import Seen, form, nearest, same_form_problem

FORM, ALONE, SUPPORT = "form", "stand-alone", "grounded"
SAME_FORM, LEAK, MODEL, NEW = "same form", "leak", "model's check", "not seen before"
"""Names of the checks."""
_REFUSED_KEPT = 10
"""Most anchors by rule that are kept beside one row, of those that are refused."""


class Rewriter:
    """Makes all rows of a run.

    Args:
        settings: What decides them.
        asker: Asks the model; None to make all by rule.
    """

    def __init__(self, settings: RowSettings, asker: Asker | None) -> None:
        self.settings = settings
        self.asker = asker
        self.lost: list[Lost] = []

    def run(self, forget: Sequence[Material], keep: Sequence[Material]) -> RewriteResult:
        """Rows to forget, rows to keep, and anchors beside the rows to forget.

        A row to keep that repeats one to forget is refused; so is an anchor that does.

        Raises:
            InputError: The model cannot be used.
        """
        seen = Seen(self.settings.similar)
        first = _only_new(self._questions("forget", forget), seen)
        second = _only_new(self._questions("keep", keep), seen)
        result = RewriteResult([*first, *second], self.lost, self.settings)
        if self.settings.anchors:
            result.candidates.extend(self._anchors(result))
        return result

    # --------------------------------------------------------------------------------- questions

    def _questions(self, part: Part, materials: Sequence[Material]) -> list[Candidate]:
        """Candidates in the order of their material, checked by all but `NEW`."""
        ready = [m for m in materials if m.is_ready]
        unwritten = [m for m in materials if not m.is_ready]
        found = [c for m in ready for c in self._by_rule(part, m)]
        if self.asker is None:
            found += [c for m in unwritten for c in self._by_rule(part, m)]
        else:
            good = self._rated(self.asker, part, unwritten)
            written = self._written(self.asker, part, good)
            if self.settings.model_checks:
                written = self._judged(self.asker, part, written, _judge, prompts.SUPPORT)
            found += written
            if self.settings.fall_back:
                done = {c.material.row_id for c in written if c.is_accepted}
                found += [c for m in good if m.row_id not in done for c in self._by_rule(part, m)]
        order = {material.row_id: index for index, material in enumerate(materials)}
        return sorted(found, key=lambda c: order[c.material.row_id])

    def _rated(self, asker: Asker, part: Part, materials: Sequence[Material]) -> list[Material]:
        """Without the passages that the model rates too low; a rating that is none counts not."""
        passages = [m for m in materials if m.domain == "passage"]
        if self.settings.lowest_rating <= 1 or not passages:
            return list(materials)
        answers = asker.answers(f"{part}: rating", [prompts.rate(m) for m in passages])
        low = {
            material.row_id
            for material, answer in zip(passages, answers, strict=True)
            if answer.value is not None and answer.value["rating"] < self.settings.lowest_rating
        }
        reason = f"rated below {self.settings.lowest_rating} of 5"
        self.lost += [Lost(part, m, reason) for m in passages if m.row_id in low]
        return [m for m in materials if m.row_id not in low]

    def _written(self, asker: Asker, part: Part, materials: Sequence[Material]) -> list[Candidate]:
        asks = [prompts.write(material, self.settings.questions) for material in materials]
        found = []
        for material, answer in zip(
            materials, asker.answers(f"{part}: writing", asks), strict=True
        ):
            if answer.value is None:
                self.lost.append(Lost(part, material, f"no reply of its form: {answer.problem}"))
                continue
            if not answer.value["pairs"]:
                self.lost.append(Lost(part, material, "the model wrote no question"))
            for number, qa in enumerate(_pairs(answer.value, self.settings.questions), start=1):
                qa = _with_distractors(qa, material)
                row_id = f"{material.row_id}/{number}"
                found.append(self._checked(Candidate(part, row_id, qa, material, answer.made)))
        return found

    def _by_rule(self, part: Part, material: Material) -> list[Candidate]:
        """The questions that need no model; of a ready row the row itself."""
        if not material.ready and self.asker is None:
            self.lost.append(Lost(part, material, "no sentence in which a rule finds a question"))
        made = Made("source" if material.is_ready else "rules")
        return [
            self._checked(
                Candidate(
                    part,
                    material.row_id if material.is_ready else f"{material.row_id}/rule{number}",
                    *(qa, material, made),
                )
            )
            for number, qa in enumerate(material.ready, start=1)
        ]

    def _checked(self, candidate: Candidate) -> Candidate:
        """All checks by rule of a row that is no anchor."""
        qa, material = candidate.qa, candidate.material
        written = candidate.made.by == "model"
        candidate = candidate.checked(FORM, form_problem(qa, written=written))
        candidate = candidate.checked(ALONE, standalone_problem(qa.question))
        if not written:
            return candidate
        problem = support_problem(qa, material.evidence, self.settings.support)
        return candidate.checked(SUPPORT, problem)

    # ----------------------------------------------------------------------------------- anchors

    def _anchors(self, result: RewriteResult) -> list[Candidate]:
        """Anchors of the accepted rows to forget, in their order."""
        rows, pool = result.accepted("forget"), result.accepted("keep")
        forgotten = Forgotten((row.qa for row in rows), self.settings.forgotten)
        seen = Seen(self.settings.similar)
        for row in rows:
            seen.add(row.qa.question)
        found: list[Candidate] = []
        if self.asker is not None:
            found = self._written_anchors(self.asker, rows, forgotten)
            if self.settings.model_checks:
                found = self._judged(self.asker, "anchors", found, _confirm, prompts.TRUTH)
            found = _only_new(found, seen)
        if self.asker is None or self.settings.fall_back:
            found += self._nearest_anchors(rows, pool, found, forgotten, seen)
        had = Counter(c.anchor_of for c in found if c.is_accepted)
        for row in rows:
            if had[row.row_id] < self.settings.anchors:
                count = f"{row.row_id} has {had[row.row_id]} of {self.settings.anchors}"
                reason = f"fewer anchors than asked for: {count}"
                self.lost.append(Lost("anchors", row.material, reason))
        order = {row.row_id: index for index, row in enumerate(rows)}
        return sorted(found, key=lambda c: order[c.anchor_of])

    def _written_anchors(
        self, asker: Asker, rows: Sequence[Candidate], forgotten: Forgotten
    ) -> list[Candidate]:
        asks = [prompts.anchor(row.qa, self.settings.anchors) for row in rows]
        found = []
        for row, answer in zip(rows, asker.answers("anchors: writing", asks), strict=True):
            if answer.value is None:
                reason = f"no anchors in the form asked for: {answer.problem}"
                self.lost.append(Lost("anchors", row.material, reason))
                continue
            for number, qa in enumerate(_pairs(answer.value, self.settings.anchors), start=1):
                row_id = f"{row.row_id}/anchor{number}"
                candidate = Candidate("anchors", row_id, qa, row.material, answer.made, row.row_id)
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
        """For rows that lack anchors the rows to keep whose form is nearest, each used once.

        Those that were refused on the way are kept as well, up to `_REFUSED_KEPT` for each row.
        """
        forms = [form(candidate.qa.question) for candidate in pool]
        used: set[int] = set()
        found = []
        for row in rows:
            had = sum(c.anchor_of == row.row_id and c.is_accepted for c in before)
            lacking, refused = self.settings.anchors - had, 0
            for index in nearest(row.qa.question, forms) if lacking > 0 else ():
                if index in used or seen.find(pool[index].qa.question):
                    continue
                anchor = pool[index]
                row_id = f"{row.row_id}/anchor/{anchor.row_id}"
                made = replace(anchor.made, by="rules")
                candidate = _checked_anchor(
                    Candidate("anchors", row_id, anchor.qa, anchor.material, made, row.row_id),
                    row.qa,
                    forgotten,
                )
                if candidate.is_accepted:
                    used.add(index)
                lacking -= candidate.is_accepted
                refused += not candidate.is_accepted
                if candidate.is_accepted or refused <= _REFUSED_KEPT:
                    found.append(candidate)
                if not lacking:
                    break
        return found

    # ------------------------------------------------------------------------------------- model

    def _judged(
        self,
        asker: Asker,
        part: Part,
        candidates: Sequence[Candidate],
        ask: Callable[[Candidate], Ask],
        schema: prompts.Schema,
    ) -> list[Candidate]:
        """The model's check of those that passed the rules; no verdict is a refusal."""
        passed = [index for index, c in enumerate(candidates) if c.is_accepted]
        answers = asker.answers(f"{part}: checking", [ask(candidates[i]) for i in passed])
        found = list(candidates)
        for index, answer in zip(passed, answers, strict=True):
            problem = f"no verdict: {answer.problem}" if answer.value is None else ""
            denied = [name for name in schema["properties"] if not (answer.value or {}).get(name)]
            if answer.value is not None and denied:
                problem = f"the model says: not {', not '.join(denied)}"
            found[index] = found[index].checked(MODEL, problem)
        return found


def _judge(candidate: Candidate) -> Ask:
    return prompts.judge(candidate.material, candidate.qa)


def _confirm(candidate: Candidate) -> Ask:
    return prompts.confirm(candidate.qa)


def _checked_anchor(candidate: Candidate, of: QA, forgotten: Forgotten) -> Candidate:
    """All checks by rule of an anchor."""
    qa = candidate.qa
    written = candidate.made.by == "model"
    candidate = candidate.checked(FORM, form_problem(qa, written=written))
    candidate = candidate.checked(ALONE, standalone_problem(qa.question))
    candidate = candidate.checked(SAME_FORM, same_form_problem(qa.question, of.question))
    return candidate.checked(LEAK, forgotten.problem(qa, of))


def _pairs(value: dict[str, Any], most: int) -> list[QA]:
    """Questions and answers of a reply, no more than were asked for."""
    return [QA(p["question"].strip(), p["answer"].strip()) for p in value["pairs"][:most]]


def _with_distractors(qa: QA, material: Material) -> QA:
    """Of a multiple-choice row: the wrong options stay, the right one counts as correct."""
    if material.domain != "multiple_choice":
        return qa
    known = material.ready[0]
    return QA(qa.question, qa.answer, (known.answer,), known.distractors)


def _only_new(candidates: Sequence[Candidate], seen: Seen) -> list[Candidate]:
    """The check against all earlier questions, of those that passed the other ones."""
    found = []
    for candidate in candidates:
        if candidate.is_accepted:
            same = seen.find(candidate.qa.question)
            candidate = candidate.checked(NEW, f"it repeats {same!r}" if same else "")
            if not same:
                seen.add(candidate.qa.question)
        found.append(candidate)
    return found
