"""Output of runs and evaluations: tables, pictures, pages and ``summary.json``.

`run_*` belongs to training runs, `evaluation_*` to evaluations. Pictures are matplotlib figures,
which TensorBoard and notebooks show as well. This package does not import training code.
"""

from lit_unlearn.report.run_gradients import read_gradients
from lit_unlearn.report.run_page import write_report
from lit_unlearn.report.run_pictures import (
    cosine_figure,
    heatmap_figure,
    layers_figure,
    loss_figure,
    norm_figure,
)
from lit_unlearn.report.run_summary import SCHEMA_VERSION, RunFacts, summary_table, write_summary

__all__ = ["SCHEMA_VERSION", "RunFacts"]
__all__ += ["cosine_figure", "heatmap_figure", "layers_figure", "loss_figure", "norm_figure"]
__all__ += ["read_gradients", "summary_table", "write_report", "write_summary"]
