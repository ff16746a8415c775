"""Magnitude pruning as an attack: the smallest weights of each matrix become zero.

After Han et al. 2015, "Learning both Weights and Connections for Efficient Neural Networks" (arXiv
1506.02626). Pruning is common in deployment, and can remove the weights that hide an answer.
"""

from torch import Tensor, nn

from lit_unlearn.attacks.copies import linear_copy, weight_by_output
from lit_unlearn.errors import check_number

__all__ = ["check_share", "pruned_copy", "smallest_to_zero"]


def smallest_to_zero(weight: Tensor, share: float) -> Tensor:
    """Return a matrix whose ``floor(share * numel)`` smallest weights by magnitude are zero.

    Of equal magnitudes at the limit, any may be chosen. A share of 0 changes nothing.
    """
    check_share(share)
    count = int(share * weight.numel())
    flat = weight.flatten().clone()
    chosen = flat.float().abs().topk(count, largest=False).indices
    flat[chosen] = 0
    return flat.view_as(weight)


def pruned_copy(model: nn.Module, share: float) -> nn.Module:
    """Return a copy of a model whose linear layers are pruned; see `smallest_to_zero`.

    Biases, norms, embeddings and the output head keep their values. Adapters of peft are merged
    first.

    Raises:
        InputError: The model has no linear layers, or `share` is out of range.
    """
    check_share(share)
    changed, layers = linear_copy(model)
    for layer in layers:
        weight = weight_by_output(layer)
        weight.copy_(smallest_to_zero(weight, share))
    return changed


def check_share(share: float) -> None:
    """Check that a share of weights is in range."""
    check_number("share", share, 0, 1)
