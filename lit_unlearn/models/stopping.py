"""Texts at which a reply ends.

`stop_strings` of transformers is not used: it also matches a text that begins in the prompt.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase, StoppingCriteria

from lit_unlearn.errors import InputError

__all__ = ["StopTexts", "check_stops", "cut"]


def check_stops(stops: Sequence[str]) -> None:
    """Check that no stop is empty, since it would make every reply empty."""
    if "" in stops:
        raise InputError(
            f"stops: expected texts of at least one character, found {list(stops)}; leave the "
            "empty one out"
        )


def cut(text: str, stops: Sequence[str]) -> str:
    """Return the text before the first stop in it."""
    ends = [text.find(stop) for stop in stops if stop in text]
    return text[: min(ends)] if ends else text


class StopTexts(StoppingCriteria):
    """Criterion that ends a row of a batch once its reply contains a stop.

    It only saves time, and reads only the last tokens; `cut` decides where the reply ends. The
    reply begins after ``prompt_length`` tokens, padding included.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, stops: Sequence[str], prompt_length: int
    ) -> None:
        self.tokenizer, self.stops, self.prompt_length = tokenizer, stops, prompt_length
        self.window = max(len(stop.encode()) for stop in stops) + 1

    def __call__(self, input_ids: Tensor, scores: object, **_: object) -> Tensor:
        """Return ``[R]`` bool: whether the reply of each row contains a stop."""
        reply = input_ids[:, self.prompt_length :]
        tails = reply[:, -self.window :].tolist()
        texts = [str(self.tokenizer.decode(tail, skip_special_tokens=True)) for tail in tails]
        ended = [cut(text, self.stops) != text for text in texts]
        return torch.tensor(ended, device=input_ids.device)
