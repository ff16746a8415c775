"""Soft prompts as an attack: vectors after the question, optimised until a target is likely.

Schwinn et al. 2024, "Soft Prompt Threats: Attacking Safety Alignment and Unlearning in Open-Source
LLMs through the Embedding Space" (arXiv 2402.09063): signed gradient descent on the vectors of an
attack string, 20 tokens, 100 iterations, step 0.001 on a 7B Llama 2, without a bound. The bound is
that of projected gradient descent (Madry et al. 2018, arXiv 1706.06083). Lengths are in units of
the model's own embeddings, so that a setting means the same for every model.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lit_unlearn.attacks.inputs import (
    AttackRow,
    chunks,
    embedding_table,
    embeddings_of,
    target_nll,
    virtual_tokens,
)
from lit_unlearn.errors import InputError, check_number
from lit_unlearn.models.forward import evaluating

__all__ = ["Descent", "SoftPrompt", "optimise", "project", "virtual_ids"]


@dataclass
class Descent:
    """Settings of the optimisation of a soft prompt.

    Args:
        length: Number of vectors inserted after the question.
        steps: Steps of signed gradient descent.
        step_size: Change of every entry in a step, in units of the root mean square entry of the
            model's token embeddings. Schwinn et al. use about 0.06 on Llama 2.
        radius: Largest 2-norm of a vector's distance from its start, in units of the root mean
            square norm of the model's token embeddings; null for no bound, as in Schwinn et al.
        seed: Seed of the random tokens whose embeddings are the first vectors.
    """

    length: int = 20
    steps: int = 100
    step_size: float = 0.06
    radius: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_number("length", self.length, 1)
        check_number("steps", self.steps, 0)
        check_number("step_size", self.step_size, 0, above=True)
        check_number("radius", self.radius, 0, above=True)


@dataclass(frozen=True)
class SoftPrompt:
    """The vectors that were found."""

    vectors: Tensor
    """``[S, L, D]`` float32: ``S`` prompts (1 if all rows share it) of ``L`` vectors."""
    losses: list[float]
    """Mean target NLL before each step and after the last, in nats per target token."""


def optimise(
    model: nn.Module,
    rows: Sequence[AttackRow],
    descent: Descent,
    *,
    shared: bool = True,
    batch_size: int = 8,
) -> SoftPrompt:
    """Optimise vectors that make the targets of the rows likely; at least one row is needed.

    The target's mean NLL per token is minimised. The vectors of the step with the lowest loss are
    returned; without a shared prompt, this step is chosen for each row. The model is read in
    evaluation mode and not changed. A pass reads `batch_size` rows; gradients are summed over all.
    """
    if not rows:
        raise InputError("Parameter `rows` should have at least one row. Found none; add sources.")
    table = embedding_table(model)
    generator = torch.Generator().manual_seed(descent.seed)
    drawn = torch.randint(len(table), (descent.length,), generator=generator)
    prompts = 1 if shared else len(rows)  # all start from the same random tokens
    start = table[drawn.to(table.device)].expand(prompts, -1, -1).clone()
    step = descent.step_size * float(table.square().mean().sqrt())
    size = float(table.square().sum(-1).mean().sqrt())
    radius = None if descent.radius is None else descent.radius * size
    vectors, best = start.clone(), start.clone()
    lowest = torch.full((len(start),), torch.inf, device=start.device)
    losses: list[float] = []
    with evaluating(model), torch.enable_grad():
        for number in range(descent.steps + 1):
            values, gradient = _loss_and_gradient(model, rows, vectors, batch_size)
            losses.append(float(values.mean()))
            current = values.mean()[None] if shared else values
            better = current < lowest
            lowest = torch.where(better, current, lowest)
            best[better] = vectors[better]
            if number < descent.steps:
                vectors = project(vectors - step * gradient.sign(), start, radius)
    return SoftPrompt(best, losses)


def project(vectors: Tensor, centre: Tensor, radius: float | None) -> Tensor:
    """Project each vector, ``[..., D]``, onto the ball of ``radius`` around its centre.

    `radius` is a 2-norm; None is no bound.
    """
    if radius is None:
        return vectors
    shift = vectors - centre
    lengths = shift.norm(dim=-1, keepdim=True)
    shrink: Tensor = radius / lengths.clamp(min=radius)
    return centre + shift * shrink


def virtual_ids(model_vocabulary: int, prompts: int, length: int) -> list[list[int]]:
    """Return the token ids for the vectors of each soft prompt, see `virtual_tokens`."""
    starts = range(model_vocabulary, model_vocabulary + prompts * length, length)
    return [list(range(start, start + length)) for start in starts]


def _loss_and_gradient(
    model: nn.Module, rows: Sequence[AttackRow], vectors: Tensor, batch_size: int
) -> tuple[Tensor, Tensor]:
    """Return the rows' losses, ``[R]``, and the gradient of their sum with respect to vectors."""
    leaf = vectors.detach().clone().requires_grad_()
    prompts, length, width = leaf.shape
    ids = virtual_ids(embeddings_of(model).num_embeddings, prompts, length)
    values: list[Tensor] = []
    gradient = torch.zeros_like(leaf)
    with virtual_tokens(model, leaf.view(-1, width)):
        for part in chunks(len(rows), batch_size):
            inserted = [ids[0] if prompts == 1 else ids[r] for r in part]
            losses = target_nll(model, [rows[r] for r in part], inserted)
            gradient += torch.autograd.grad(losses.sum(), leaf)[0]
            values.append(losses.detach())
    return torch.cat(values), gradient
