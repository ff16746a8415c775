"""Results of a run in the user's cache, found before a model is loaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lit_unlearn.data.encoding import Encoder
from lit_unlearn.models.finding import weights_key
from lit_unlearn.models.loading import ModelSource, load_student
from lit_unlearn.models.tiny import TINY_NAME, tiny_tokenizer
from lit_unlearn.planning.planned_rows import read_rows
from lit_unlearn.planning.scenario import scenario_of
from lit_unlearn.planning.stored import Lookup
from lit_unlearn.teachers import FrozenTeacher
from lit_unlearn.training.module import UnlearnModule
from lit_unlearn.training.setup.prepare import prepare
from lit_unlearn.training.setup.start import fill_teacher_cache, store_trunk
from lit_unlearn.training.setup.teacher_gate import Gate
from tests.unit.training.test_module_cache import data_module, objectives

SOURCE = ModelSource(TINY_NAME, trainable=["layers[.]1[.]", "model[.]norm"])


def test_what_a_run_has_kept_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of another model nothing is; of a longer run, not the rows of its later steps."""
    monkeypatch.setenv("LIT_UNLEARN_CACHE", str(tmp_path))
    encoder = Encoder(tiny_tokenizer(), 512, "warn")
    rows = read_rows(data_module(), encoder)
    data, gate = rows.data, Gate("warn", sample=2, max_new_tokens=2)

    def look(source: ModelSource = SOURCE, steps: int = 1) -> tuple[float, ...]:
        module = UnlearnModule(source, objectives(), FrozenTeacher(cache=True), gate=gate)
        lookup = Lookup(module, scenario_of(module, data), rows, encoder, steps)
        return lookup.gate(), lookup.trunk(), lookup.teacher()

    assert look() == (0, 0, 0)
    teacher = FrozenTeacher(cache=True)
    module = UnlearnModule(SOURCE, objectives(), teacher)
    module.student = load_student(SOURCE)
    teacher.attach(module.student, SOURCE)
    known, file = repr(weights_key(SOURCE)), tmp_path / "p.json"
    bare = [name for name, objective in objectives().items() if objective.reads_teacher_bare]
    prepare(data.objectives, data.examples, teacher, encoder, gate, file, known, bare=bare)
    assert look() == (1, 0, 0)
    module.trunk = store_trunk(module, data, 1)
    fill_teacher_cache(module, data, 1)
    assert look() == (1, 1, 1)
    assert max(look(steps=3)[1:]) < 1
    assert look(replace(SOURCE, seed=1)) == (0, 0, 0)
