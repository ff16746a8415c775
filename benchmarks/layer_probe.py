"""Find the layer from which a model separates forget rows from neighbours, to choose what to train.

    python benchmarks/layer_probe.py MODEL [--data FOLDER]

A logistic regression reads the hidden state of the last prompt token at every depth and separates
the built-in forget rows from the neighbour rows or, with `--data`, TOFU's forget01 from every
fourth row of retain_perturbed. Only training rows are used, with five-fold cross-validation. The
area under the ROC curve is printed (0.5 is chance). Cost: a minute on one CPU core with
SmolLM2-135M.

If the area rises only at some depth, weights below it can only learn surface features of the forget
rows (the form of a question), which neighbours share. Training only the layers above is cheaper and
keeps more (`model.student.trainable`).
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from script import run_script
from torch import Tensor
from torch.nn import functional

from lit_unlearn.data.encoding import Encoder
from lit_unlearn.data.places import Source
from lit_unlearn.data.unify import load_examples
from lit_unlearn.metrics.functional.statistics import auc
from lit_unlearn.models.loading import ModelSource, load_base, load_tokenizer

FOLDS = 5
PENALTY = 3e-3
BUILTIN = (Source("builtin:forget", split="train"), Source("builtin:neighbor", split="train"))
TOFU = (
    Source("locuslab/TOFU", config="forget01"),
    Source("locuslab/TOFU", config="retain_perturbed", every=4),
)


def states(model: torch.nn.Module, encoder: Encoder, source: Source, data: Path | None) -> Tensor:
    """Return the hidden states of the last prompt token, ``[rows, depths, width]``."""
    found = []
    for example in load_examples([source], data_root=data):
        ids = torch.tensor([encoder.prompt_ids(example.turns)])
        with torch.no_grad():
            hidden = model(input_ids=ids, output_hidden_states=True, logits_to_keep=1).hidden_states
        found.append(torch.stack([state[0, -1].float() for state in hidden]))
    return torch.stack(found)


def held_out_area(forget: Tensor, neighbor: Tensor) -> float:
    """Return the held-out area under the ROC curve of ``[n, width]`` and ``[m, width]`` states."""
    scores = []
    for rows, label in ((forget, 1.0), (neighbor, 0.0)):
        scores.append(torch.zeros(len(rows)))
        for fold in range(FOLDS):
            keep = [torch.arange(len(r)) % FOLDS != fold for r in (forget, neighbor)]
            score = classifier(forget[keep[0]], neighbor[keep[1]])
            out = ~keep[0 if label else 1]
            scores[-1][out] = score(rows[out])
    return auc(scores[1].tolist(), scores[0].tolist())


def classifier(positive: Tensor, negative: Tensor) -> Callable[[Tensor], Tensor]:
    """Fit a logistic regression on standardised features, with equal weight of both classes."""
    features = torch.cat([positive, negative])
    mean, deviation = features.mean(0), features.std(0) + 1e-3
    labels = torch.cat([torch.ones(len(positive)), torch.zeros(len(negative))])
    balance = torch.where(labels == 1, len(negative) / len(positive), 1.0)
    weight = torch.zeros(features.shape[1] + 1, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight], max_iter=100)

    def score(rows: Tensor) -> Tensor:
        return (rows - mean) / deviation @ weight[:-1] + weight[-1]

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = functional.binary_cross_entropy_with_logits(score(features), labels, weight=balance)
        loss = loss + PENALTY * weight[:-1].square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return lambda rows: score(rows).detach()


def main() -> None:
    """Print the area of every depth."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("model", help="hub id or folder")
    parser.add_argument("--data", type=Path, help="folder with TOFU's files, to use TOFU's rows")
    given = parser.parse_args()
    source = ModelSource(given.model)
    model = load_base(source).eval()
    encoder = Encoder(load_tokenizer(source))
    forget, neighbor = (
        states(model, encoder, rows, given.data) for rows in (TOFU if given.data else BUILTIN)
    )
    print(f"{len(forget)} forgotten, {len(neighbor)} neighbours; blocks below, area")
    for depth in range(forget.shape[1]):
        print(f"{depth:3} {held_out_area(forget[:, depth], neighbor[:, depth]):.3f}", flush=True)


if __name__ == "__main__":
    run_script(main)
