"""Check before a model is loaded that the longest rows of a run leave room for an answer."""

from heapq import nlargest
from typing import Any

from lit_unlearn.data.datamodule import UnlearnDataModule
from lit_unlearn.models.loading import load_tokenizer
from lit_unlearn.planning.architectures import model_config
from lit_unlearn.training.module import UnlearnModule
from lit_unlearn.training.setup.prepare import answer_texts, encode_rows
from lit_unlearn.training.setup.views import Material
from lit_unlearn.utils.progress import Stage

__all__ = ["check_lengths"]

_LONGEST = 4
"""Number of rows of each objective that are encoded, those with the most characters."""


def check_lengths(module: UnlearnModule, data: UnlearnDataModule) -> None:
    """Encode the longest rows under the first context that the teacher tries.

    Raises:
        InputError: A row is too long, and `data.on_problem` is `error`.
    """
    data.prepare_data()
    encoder = data.encoder(load_tokenizer(module.source))
    text: Any = model_config(module.source).get_text_config()
    positions = getattr(text, "max_position_embeddings", None) or encoder.max_length
    encoder.max_length = min(encoder.max_length, positions)
    material = Material(data.objectives, data.examples)
    for name, rows in data.examples.items():
        sizes = [len(row.answer) + sum(len(turn.content) for turn in row.turns) for row in rows]
        longest = nlargest(_LONGEST, range(len(rows)), key=sizes.__getitem__)
        answers = answer_texts(name, material, data.objectives[name].answer)
        encode_rows(name, material, 0, answers, encoder, Stage("encoding"), longest)
