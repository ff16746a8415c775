"""Noise in start weights, which distillation then repairs (UNDO)."""

from dataclasses import dataclass

import torch
from torch import nn

from lit_unlearn.errors import InputError

__all__ = ["Noise", "add_noise"]


@dataclass
class Noise:
    """Damage to the start weights, which distillation then repairs (UNDO).

    Each parameter starts as ``(1 - mix) theta + mix scale N``, N Xavier-uniform for
    matrices and 0 for vectors (norms, biases). Lee et al. 2025, arXiv 2506.06278: suppress the
    knowledge in one run, then distil with ForwardKL on general text into a student with noise,
    both from the suppressed model. Teachers start without it.

    Args:
        mix: Share of the weights that is replaced, in (0, 1]; 0.25 for WMDP in the paper's code.
        scale: Size of the noise in units of a fresh initialisation, at least 0; 0 only shrinks the
            weights, as for WMDP in the paper's code.
        seed: Seed of the noise.
    """

    mix: float = 0.25
    scale: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.mix <= 1 or self.scale < 0:
            raise InputError(
                "Parameters of `model.student.noise`: `mix` should lie above 0 and be at most 1, "
                f"`scale` be at least 0. Found {self.mix} and {self.scale}; for no noise set "
                "`model.student.noise` to null."
            )


@torch.no_grad()
def add_noise(model: nn.Module, noise: Noise) -> None:
    """Mix noise into all parameters, in place; tied ones once. See `Noise`.

    The noise is sampled on the CPU in float32, one parameter after the other, so that it is the
    same for every dtype and device.
    """
    generator = torch.Generator().manual_seed(noise.seed)
    for parameter in model.parameters():
        parameter.mul_(1 - noise.mix)
        if parameter.dim() > 1:
            sampled = torch.empty(parameter.shape, dtype=torch.float32)
            nn.init.xavier_uniform_(sampled, generator=generator)
            parameter.add_(sampled.to(parameter), alpha=noise.mix * noise.scale)
