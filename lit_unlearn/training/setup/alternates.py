"""Alternate answers: for each row a wrong but believable answer of the start model.

For alternate preference optimisation (AltPO, Mekala et al. 2024, arXiv 2409.13474), which prefers
the made-up answer to the gold one. The model gets question and gold answer and is asked to change
the facts: first by greedy decoding, then with sampling for rows whose answer does not do.
"""

import logging
import re
from collections.abc import Sequence
from functools import partial
from typing import Any

from lit_unlearn.data.encoding import Encoder
from lit_unlearn.distributed.ranks import share, world_size
from lit_unlearn.errors import InputError
from lit_unlearn.metrics.functional.refusals import is_refusal
from lit_unlearn.metrics.functional.scores import is_correct
from lit_unlearn.models.generation import generate_replies
from lit_unlearn.models.sampling import Sampling
from lit_unlearn.types import Example, Turn
from lit_unlearn.utils.progress import Stage

__all__ = ["SAMPLED", "alternate_answers", "is_alternate", "request"]

log = logging.getLogger(__name__)

SAMPLED = 8
"""Number of attempts with sampling after the greedy one."""
_REQUEST = (
    "Question: {question}\nTrue answer: {answer}\n\n"
    "Make up a false answer to this question. It must sound as believable as the true answer and "
    "be about as long, but every name, place, date, number and fact that the true answer gives "
    "must be replaced by another one. Reply with the false answer only."
)
_STOPS = ("\n\n", "\nQuestion:", "\nTrue answer:")
_LABEL = re.compile(r"^\s*(?:\w+\s+)?answer\s*:\s*", re.IGNORECASE)
_WORD = re.compile(r"\w+")


def request(example: Example) -> str:
    """Return the request to the model for a row."""
    return _REQUEST.format(question=example.question, answer=example.answer)


def is_alternate(text: str, example: Example) -> bool:
    """Return whether a text is another answer to a row than the gold one.

    It must have a word that the gold answer lacks, must not contain the gold answer or an accepted
    spelling of it, and must not decline. Plausibility is not checked, and a paraphrase passes.
    """
    new = set(_WORD.findall(text.casefold())) - set(_WORD.findall(example.answer.casefold()))
    gold = [answer for answer in (example.answer, *example.accepted) if answer.strip()]
    return bool(new) and not (gold and is_correct(text, gold)) and not is_refusal(text)


def alternate_answers(
    name: str,
    examples: Sequence[Example],
    refusals: Sequence[str],
    model: Any,
    encoder: Encoder,
    max_new_tokens: int,
    stage: Stage,
) -> list[str]:
    """Make an alternate answer for every row of an objective with the start model.

    A row for which no attempt gives one gets a refusal, in turn by its index, and a warning counts
    such rows. A row without question or answer is an `InputError`.
    """
    _check_rows(name, examples)
    prompts = [encoder.prompt_ids([Turn("user", request(example))]) for example in examples]
    found: dict[int, str] = {}
    for attempt in range(1 + SAMPLED):
        open_rows = [index for index in range(len(examples)) if index not in found]
        if not open_rows:
            break
        if attempt:
            stage.more(len(open_rows))
        generate = partial(
            generate_replies,
            model,
            encoder.tokenizer,
            max_new_tokens=max_new_tokens,
            sampling=Sampling(seed=attempt) if attempt else None,
            stops=_STOPS,
            progress=stage.counter(len(open_rows), world_size()),
            thoughts=encoder.thoughts,
        )
        replies = share([prompts[index] for index in open_rows], generate, model)
        for index, (reply,) in zip(open_rows, replies, strict=True):
            text = _LABEL.sub("", reply).strip()
            if is_alternate(text, examples[index]):
                found[index] = text
    missing = [row.example_id for index, row in enumerate(examples) if index not in found]
    if missing:
        log.warning(
            "data.objectives.%s.answer: alternate: %d of %d rows got a refusal, since none of %d "
            "attempts gave another answer than the gold one: %s.",
            *(name, len(missing), len(examples), 1 + SAMPLED),
            ", ".join([*missing[:5], "..."] if len(missing) > 5 else missing),
        )
    return [found.get(i, refusals[i % len(refusals)]) for i in range(len(examples))]


def _check_rows(name: str, examples: Sequence[Example]) -> None:
    bad = next((row for row in examples if row.plain or not row.answer.strip()), None)
    if bad is not None:
        raise InputError(
            f"Parameter `data.objectives.{name}.answer` is `alternate`, which needs questions with "
            f"gold answers. Found row {bad.example_id!r}, which is "
            f"{'a plain passage' if bad.plain else 'without an answer'}; use "
            "`data.representation: unified`, other rows, or another `answer`."
        )
