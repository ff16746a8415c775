"""Metrics of the texts that a model generates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from lit_unlearn.errors import InputError, check_number
from lit_unlearn.metrics.functional.refusals import is_refusal
from lit_unlearn.metrics.functional.scores import repetition, rouge_l_f1, rouge_l_recall
from lit_unlearn.metrics.row_metric import RowMean, check_choice

__all__ = ["RefusalRate", "Repetition", "RougeL"]

_KINDS = {"recall": rouge_l_recall, "f1": rouge_l_f1}


class RougeL(RowMean):
    r"""ROUGE-L of replies with the gold answers, averaged over rows.

    .. math:: R = \frac{\text{LCS}(gold, reply)}{|gold|}, \quad F = \frac{2 P R}{P + R}, \quad
              P = \frac{\text{LCS}(gold, reply)}{|reply|}

    Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries". TOFU (arXiv 2401.06121)
    takes the recall with stems, MUSE (arXiv 2407.06460) F without. For text in Latin script it is
    the `torchmetrics.text.ROUGEScore` of ``rougeL``. In other scripts, which that one finds no
    words in, words are those of `functional.scores.rouge_l_recall`.

    Args:
        kind: Recall, or F.
        stemmer: Compare Porter stems.
        kwargs: Arguments of `torchmetrics.Metric`.

    Example:
        >>> metric = RougeL()
        >>> metric.update("It is Paris.", "The city is Paris")
        >>> metric.compute()
        tensor(0.5000)
    """

    def __init__(
        self, kind: Literal["recall", "f1"] = "recall", stemmer: bool = True, **kwargs: Any
    ) -> None:
        check_choice("kind", kind, _KINDS)
        super().__init__(f"rouge_l_{kind}_{'stems' if stemmer else 'words'}", **kwargs)
        self.kind, self.stemmer = kind, stemmer

    def update(self, preds: str | Sequence[str], target: str | Sequence[str]) -> None:
        """Add replies.

        Args:
            preds: Replies of the model.
            target: Gold answer of each; one without a word does not count.

        Raises:
            InputError: There are not as many replies as answers.
        """
        replies, golds = _texts(preds), _texts(target)
        if len(replies) != len(golds):
            raise InputError(
                "Parameters `preds` and `target` should have a text per row. Found "
                f"{len(replies)} and {len(golds)}."
            )
        score = _KINDS[self.kind]
        pairs = zip(golds, replies, strict=True)
        self._add(self._state, [score(gold, text, stemmer=self.stemmer) for gold, text in pairs])


class RefusalRate(RowMean):
    """Share of replies that decline, by lists of English words.

    `functional.refusals` has the definition, and the precision and recall that were measured.

    Args:
        kwargs: Arguments of `torchmetrics.Metric`.

    Example:
        >>> metric = RefusalRate()
        >>> metric.update(["I'm sorry, I don't know.", "Paris."])
        >>> metric.compute()
        tensor(0.5000)
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("refused", **kwargs)

    def update(self, preds: str | Sequence[str]) -> None:
        """Add replies of the model."""
        self._add(self._state, [float(is_refusal(text)) for text in _texts(preds)])


class Repetition(RowMean):
    r"""Share of a reply's n-grams that occurred earlier in it, averaged over replies.

    .. math:: 1 - \frac{|\text{distinct n-grams}|}{|\text{n-grams}|}

    seq-rep-n of Welleck et al. 2019 (arXiv 1908.04319) over words and punctuation marks; 0 for a
    reply without n-grams. It shows replies that loop.

    Args:
        size: n, at least 1.
        kwargs: Arguments of `torchmetrics.Metric`.

    Example:
        >>> metric = Repetition(size=2)
        >>> metric.update("no no no no")
        >>> metric.compute()
        tensor(0.6667)
    """

    higher_is_better = False

    def __init__(self, size: int = 4, **kwargs: Any) -> None:
        check_number("size", size, 1)
        super().__init__(f"repeated_{size}_grams", **kwargs)
        self.size = size

    def update(self, preds: str | Sequence[str]) -> None:
        """Add replies of the model."""
        self._add(self._state, [repetition(text, self.size) for text in _texts(preds)])


def _texts(texts: str | Sequence[str]) -> list[str]:
    return [texts] if isinstance(texts, str) else list(texts)
