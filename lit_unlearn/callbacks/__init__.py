"""Lightning callbacks: what is measured, shown and written around the training steps."""

from lit_unlearn.callbacks.answers import AnswerEvaluation
from lit_unlearn.callbacks.bounds import LossBounds
from lit_unlearn.callbacks.export import HuggingFaceExport
from lit_unlearn.callbacks.gradient_monitor import GradientMonitor
from lit_unlearn.callbacks.resumable import Resumable
from lit_unlearn.callbacks.suites import SuiteEvaluation
from lit_unlearn.callbacks.throughput import Throughput

__all__ = [
    "AnswerEvaluation",
    "GradientMonitor",
    "HuggingFaceExport",
    "LossBounds",
    "Resumable",
    "SuiteEvaluation",
    "Throughput",
]
