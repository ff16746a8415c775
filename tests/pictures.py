"""Pictures at which a test does not look: they are made, but not drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg


def draw_nothing(patch: pytest.MonkeyPatch) -> None:
    """Leave pictures out of pages and TensorBoard, and their files empty: half of the time."""

    def empty(canvas: Any, file: Any, **_: Any) -> None:
        Path(file).write_bytes(b"")

    patch.setattr("lit_unlearn.report.html.svg", lambda figure, title: "")
    patch.setattr("torch.utils.tensorboard.SummaryWriter.add_figure", lambda *_, **__: None)
    patch.setattr(FigureCanvasAgg, "print_png", empty)
    patch.setattr("lit_unlearn.report.drawing.lay_out", lambda figure: None)
