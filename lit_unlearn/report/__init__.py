"""Output of runs and evaluations for people: tables, pictures, pages and ``summary.json``.

`run_*` belongs to training runs, `evaluation_*` to evaluations; pictures are matplotlib figures,
also for TensorBoard and notebooks. Nothing here knows about training.
"""

from lit_unlearn.report.run_gradients import read_gradients
from lit_unlearn.report.run_page import write_report
from lit_unlearn.report.run_pictures import cosine_figure, heatmap_figure, loss_figure, norm_figure
from lit_unlearn.report.run_summary import SCHEMA_VERSION, RunFacts, summary_table, write_summary

__all__ = ["SCHEMA_VERSION", "RunFacts"]
__all__ += ["cosine_figure", "heatmap_figure", "loss_figure", "norm_figure", "read_gradients"]
__all__ += ["summary_table", "write_report", "write_summary"]
