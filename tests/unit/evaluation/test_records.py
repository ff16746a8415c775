"""Records: the settings and versions that they hold."""

from __future__ import annotations

from lit_unlearn.evaluation.records import settings_of, versions
from lit_unlearn.evaluation.suites.quantised import Quantised


def test_settings_of_a_dataclass_and_of_a_class_without_fields() -> None:
    class Plain(Quantised):
        def __init__(self, bits: int) -> None:
            super().__init__(sources=[], bits=[bits])
            self._hidden = 1

    found = settings_of(Plain(2))
    assert found["class"] == "Plain"
    assert (found["bits"], found["group_size"]) == ([2], 64)
    assert "_hidden" not in found


def test_versions_name_what_decides_the_figures() -> None:
    assert versions().keys() == {"lit_unlearn", "torch", "transformers", "python"}
