"""Candidates that are encoded on demand: those of the eager way, and no more work than is asked."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from transformers import PreTrainedTokenizerFast

from lit_unlearn.data.encoding import Encoder, EncodingError
from lit_unlearn.data.objective_data import ObjectiveData
from lit_unlearn.data.prefills import Prefills
from lit_unlearn.data.sources import Source
from lit_unlearn.training.setup.views import Candidates, Material, RowView, views
from lit_unlearn.types import EncodedExample, Example, Turn

ROW = Example("a/0", (Turn("user", "Who wrote it?"),), "It was Ann Lee.", "question_answer")
OPENERS = Prefills(["Sure:", "The answer is"], answer_words=2, combine=True, unprefilled=3)


class Counting(Encoder):
    """Counts what is encoded."""

    calls = 0

    def encode(self, *args: object, **options: object) -> EncodedExample | None:
        self.calls += 1
        return super().encode(*args, **options)  # type: ignore[arg-type]


def of_row() -> Sequence[RowView]:
    data = ObjectiveData([Source("builtin:forget")], "decline", prefills=OPENERS)
    material = Material({"forget": data}, {"forget": [ROW]})
    return views("forget", [0], None, material, ["No."], all_prefills=True)[0]


def test_encoded_once_and_as_before(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    """Nine candidates, three of which are alike: two encodings at first, seven in all."""
    eager = [view.encode(Encoder(tiny_tokenizer)) for view in of_row()]
    encoder = Counting(tiny_tokenizer)
    lazy = Candidates(of_row(), encoder)
    assert (len(lazy), encoder.calls) == (9, 2)
    assert [*lazy] == eager
    assert lazy[-1] is lazy[6]
    assert lazy[1:3] == eager[1:3]
    assert encoder.calls == 7


def test_a_row_that_is_too_long_behind_one_prefill_is_known_at_once(
    tiny_tokenizer: PreTrainedTokenizerFast,
) -> None:
    lengths = [len(c.student_ids) for c in Candidates(of_row(), Encoder(tiny_tokenizer))]
    assert len(Candidates(of_row(), Encoder(tiny_tokenizer, max(lengths)))) == 9
    with pytest.raises(EncodingError, match=r"'a/0'.*max_length"):
        Candidates(of_row(), Encoder(tiny_tokenizer, max(lengths) - 1))
