"""Forecasts of the time of `evaluate`, and of `rewrite` with a model on this machine."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from transformers import PretrainedConfig

from lit_unlearn.data.encoding import Encoder
from lit_unlearn.evaluation.conditions import Condition
from lit_unlearn.evaluation.given_models import MODEL
from lit_unlearn.evaluation.outcome_store import Store, content_key
from lit_unlearn.evaluation.probes import Probe, Suite
from lit_unlearn.evaluation.subjects import (
    Loading,
    device_named,
    encoder_for,
    path_and_dtype,
    whole_fingerprint,
)
from lit_unlearn.models.dtypes import resolve_dtype
from lit_unlearn.models.loading import ModelSource, load_tokenizer
from lit_unlearn.planning.architectures import model_config
from lit_unlearn.planning.layout import Layout, teacher_layout
from lit_unlearn.planning.phases import Forecast, Ids, Phase, forecast_of, reading, replying
from lit_unlearn.planning.rates import SampleWork, rates_here
from lit_unlearn.planning.suites import SuiteModel, none_stored, suite_phases
from lit_unlearn.rewriting.local import LocalModel
from lit_unlearn.rewriting.prompts import Ask
from lit_unlearn.utils.grouping import grouped
from lit_unlearn.utils.spread import evenly_spread

__all__ = ["evaluation_forecast", "rewriting_forecast"]

_SAMPLE = 32
"""Questions of each kind that are encoded."""


@dataclass(frozen=True)
class _UnloadedModel:
    path: str
    loading: Loading
    revision: str | None = None

    @property
    def source(self) -> ModelSource:
        return ModelSource(self.path, self.revision, attention=self.loading.attention)

    @property
    def device(self) -> torch.device:
        return device_named(self.loading.device)

    @property
    def dtype(self) -> torch.dtype:
        return resolve_dtype(self.loading.dtype, self.device)

    def read(self) -> tuple[PretrainedConfig, Layout, Encoder]:
        """Return the model's config, sizes and encoder."""
        config = model_config(self.source)
        encoder = encoder_for(load_tokenizer(self.source), config, self.loading)
        return config, teacher_layout(config, self.dtype.itemsize), encoder

    def forecast(
        self, found: Sequence[Phase], rows: Sequence[Ids], replies: int
    ) -> Forecast | None:
        """Return the forecast of phases; for rows and replies see `SampleWork`."""
        config, work = model_config(self.source), SampleWork(rows, replies=replies)
        return forecast_of(
            found, lambda: rates_here(config, self.source, self.dtype, self.device, work)
        )


def evaluation_forecast(
    models: Mapping[str, tuple[str, Path | None]],
    suites: Mapping[str, Suite],
    loading: Loading,
    *,
    data_root: Path | None = None,
    limit: int | None = None,
    batch_size: int = 16,
    condition: Condition | None = None,
) -> Forecast | None:
    """Forecast the time of `evaluate`; None if it takes only seconds.

    Args:
        models: Path of each model and the folder of its evaluation, by heading.
        suites: Suites by name.
        loading: Settings of the models.
        data_root: See `evaluate`.
        limit: See `evaluate`.
        batch_size: See `evaluate`.
        condition: What stands in front of the model with the heading `model`.

    Raises:
        InputError: A model or the rows of a suite cannot be found or used.
    """
    found: list[Phase] = []
    rows: list[Ids] = []
    for heading, (path, folder) in models.items():
        model = _UnloadedModel(path, loading)
        _, layout, encoder = model.read()
        known = partial(_stored, model, encoder, Store(folder / "store")) if folder else none_stored
        front = condition if heading == MODEL else None
        subject = SuiteModel(layout, encoder, known, rows, front)
        before = f"{heading}: " if len(models) > 1 else ""
        found += suite_phases(subject, suites, data_root, limit, before)
    return model.forecast(found, rows, batch_size)


def _stored(
    model: _UnloadedModel, encoder: Encoder, store: Store, suite: Suite, probes: Sequence[Probe]
) -> float:
    """Return the share of a suite's outcomes for a model that is stored."""
    if not store.path.is_file():
        return 0.0  # and skip the slow digest of the weights
    weights = path_and_dtype(model.path, model.revision, model.dtype)
    key = whole_fingerprint(weights, encoder, model.loading)
    return store.share(content_key(key, " ", probe, suite.answer_key()) for probe in probes)


def rewriting_forecast(backend: LocalModel, asks: Sequence[tuple[Ask, int]]) -> Forecast | None:
    """Forecast the time of `rewrite` if every first reply has the requested form.

    Args:
        backend: The model.
        asks: Requests, each with the number of requests that it stands for.

    Raises:
        InputError: The model's config or tokenizer cannot be read.
    """
    loading = Loading(backend.dtype, backend.device, template=backend.template)
    model = _UnloadedModel(backend.path, loading, backend.revision)
    _, layout, encoder = model.read()
    found, rows = [], []
    for task, own in grouped(asks, lambda pair: pair[0].task).items():
        sample = evenly_spread(own, _SAMPLE)
        prompts = [encoder.prompt_ids(ask.turns) for ask, _ in sample]
        rows += prompts
        texts = sum(max(len(ask.frame) - 1, 1) if backend.fill else 1 for ask, _ in sample)
        replies = sum(ask.max_tokens for ask, _ in sample)
        share = sum(count for _, count in own) / len(sample)
        read = reading(layout, prompts) * texts / len(sample)
        found.append(Phase(task, read, replying(layout, replies)).times(share))
    return model.forecast(found, rows, backend.batch_size)
