"""Lookup of a run's stored results in the user's cache before a model is loaded."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from lit_unlearn.data.encoding import Encoder
from lit_unlearn.evaluation.outcome_store import Store, content_key
from lit_unlearn.evaluation.probes import Probe, Suite
from lit_unlearn.evaluation.subjects import start_fingerprint
from lit_unlearn.models.dtypes import resolve_dtype
from lit_unlearn.models.finding import weights_key
from lit_unlearn.models.loading import ModelSource
from lit_unlearn.models.packing import rows_read
from lit_unlearn.objectives.objective import all_teacher_inputs
from lit_unlearn.planning.planned_rows import PlannedRows
from lit_unlearn.planning.scenario import Scenario
from lit_unlearn.teachers.cache.filling import cache_folder
from lit_unlearn.teachers.cache.rows import collect
from lit_unlearn.teachers.cache.store import INDEX_FILE, Shards
from lit_unlearn.training.module import UnlearnModule
from lit_unlearn.training.setup.prepare import gate_views
from lit_unlearn.training.setup.teacher_gate import asked_of
from lit_unlearn.training.setup.teacher_replies import reply_key, reply_log
from lit_unlearn.training.setup.views import Material
from lit_unlearn.training.trunk_cache import segment_key, trunk_name
from lit_unlearn.types import TokenBatch
from lit_unlearn.utils.chat_template import template_key
from lit_unlearn.utils.disk import usable_cache, user_cache
from lit_unlearn.utils.paths import local_path

__all__ = ["CPU", "Lookup"]

CPU = torch.device("cpu")

_CHEAP = 4e9
"""Largest weights, in bytes, whose digest (a part of every key) is computed for a lookup."""


@dataclass(frozen=True)
class Lookup:
    """Lookup of a run's results in the user's cache; use it only if `possible`."""

    module: UnlearnModule
    scenario: Scenario
    rows: PlannedRows
    encoder: Encoder
    steps: int = 1
    """Steps of the run; the rows of the first, the middle and the last one are looked up."""
    device: torch.device = CPU

    @cached_property
    def possible(self) -> bool:
        """Whether the keys of the results are known before the model is loaded."""
        at = self.scenario
        known = at.source.noise is None and not at.precision.endswith("16-true")
        return known and self.rows.whole is not None and at.student.weight_bytes <= _CHEAP

    def gate(self) -> float:
        """Return the stored share of the teacher's replies in the gate."""
        teacher, gate, data = self.module.teacher, self.module.gate, self.rows.data
        if teacher is None:
            return 0.0
        log = reply_log(repr(weights_key(self.scenario.source)), teacher, self._teacher_dtype)
        material = Material(data.objectives, data.examples)
        asked = []
        for name, objective in self.module.objectives.items():
            bare = objective.reads_teacher_bare
            views = gate_views(name, material, -1, gate.sample, bare=bare)
            asked += asked_of(views, self.encoder)[0]
        keys = [reply_key(one, gate.max_new_tokens) for one in asked]
        return 0.0 if log is None else log.share(keys)

    def trunk(self) -> float:
        """Return the share of rows whose trunk outputs are stored.

        A row is stored if a stored segment ends where the row ends. Rows that other rows begin
        with are not counted, since no segment need end there.
        """
        source, dtype = self.scenario.source, resolve_dtype(self.scenario.source.dtype)
        name = trunk_name(source, self.scenario.student.lowest, dtype)
        folders = [file.parent for file in (user_cache() / "trunk").glob(f"*/{INDEX_FILE}")]
        caches = [each for each in map(Shards, folders) if each.teacher == name]
        stored = {key for each in caches for key in each.entries}
        read = sorted({tuple(ids) for one in self._student_inputs() for ids in rows_read(one)})
        after = [*read[1:], ()]
        rows = [ids for ids, next_ in zip(read, after, strict=True) if next_[: len(ids)] != ids]
        ends = ([segment_key(first, ids) for first in range(len(ids))] for ids in rows)
        return sum(not stored.isdisjoint(keys) for keys in ends) / max(len(rows), 1)

    def teacher(self) -> float:
        """Return the share of rows that the teacher cache stores."""
        teacher, source = self.module.teacher, self.scenario.source
        path, own = (getattr(teacher, name, None) for name in ("path", "cache"))
        if path is not None:
            source = ModelSource(path, dtype=source.dtype)
        root = local_path(own) if isinstance(own, str) else user_cache() / "teacher"
        mixed = self.scenario.precision == "bf16-mixed"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=mixed):
            folder = cache_folder(root, (*weights_key(source), self._teacher_dtype))
        rows = collect(all_teacher_inputs(self.module.objectives, self._steps()))
        stored = Shards(folder).entries if (folder / INDEX_FILE).is_file() else {}
        return sum(key in stored for key in rows) / max(len(rows), 1)

    def answers(self, suite: Suite, probes: Sequence[Probe]) -> float:
        """Return the stored share of the start model's answers to a suite's probes."""
        source = self.scenario.source
        dtypes = {resolve_dtype(source.dtype)} | ({torch.float32} if source.lora else set())
        about = start_fingerprint(source, dtypes, self.encoder.max_length)
        folder = usable_cache("answers", about[:16])
        model = about + template_key(self.encoder.tokenizer, self.encoder.template)
        keys = [content_key(model, " ", probe, suite.answer_key()) for probe in probes]
        return 0.0 if folder is None else Store(folder, shared=True).share(keys)

    @property
    def _teacher_dtype(self) -> torch.dtype:
        own = getattr(self.scenario.teacher, "dtype", None)
        return resolve_dtype(own or self.scenario.source.dtype)

    def _steps(self) -> Iterator[dict[str, list[TokenBatch]]]:
        """Return the batches of three steps, since an earlier run may have been shorter."""
        data: Any = self.rows.whole
        plan = data.plan()
        chosen = sorted({0, self.steps // 2, self.steps - 1})
        return (data.batch(plan.step(step)) for step in chosen)

    def _student_inputs(self) -> Iterator[Any]:
        for step in self._steps():
            for name, batches in step.items():
                yield from (self.module.objectives[name].limit(each).student for each in batches)
