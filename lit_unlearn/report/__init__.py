"""What a run leaves behind for people: the summary table, ``summary.json`` and ``report.html``.

`records` holds the data and their averages, `summary` the table and the JSON file, `pictures` the
matplotlib figures (also for TensorBoard and notebooks), `page` the self-contained HTML page.
Nothing here knows about training.
"""

from lit_unlearn.report.run_page import ReportTable, write_report
from lit_unlearn.report.run_pictures import (
    cosine_figure,
    heatmap_figure,
    loss_figure,
    norm_figure,
    rates_figure,
)
from lit_unlearn.report.run_records import (
    AnswerRecord,
    ObjectiveSummary,
    RunFacts,
    read_gradients,
    summarise,
)
from lit_unlearn.report.run_summary import SCHEMA_VERSION, summary_table, write_summary

__all__ = [
    "SCHEMA_VERSION",
    "AnswerRecord",
    "ObjectiveSummary",
    "ReportTable",
    "RunFacts",
    "cosine_figure",
    "heatmap_figure",
    "loss_figure",
    "norm_figure",
    "rates_figure",
    "read_gradients",
    "summarise",
    "summary_table",
    "write_report",
    "write_summary",
]
