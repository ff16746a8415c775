"""Lightning callbacks that measure, show and write results beside the training steps."""

from lit_unlearn.callbacks.answer_evaluation import AnswerEvaluation
from lit_unlearn.callbacks.gradient_monitor import GradientMonitor
from lit_unlearn.callbacks.huggingface_export import HuggingFaceExport
from lit_unlearn.callbacks.loss_bounds import LossBounds
from lit_unlearn.callbacks.prediction_file import PredictionFile
from lit_unlearn.callbacks.resumable import Resumable
from lit_unlearn.callbacks.suite_evaluation import SuiteEvaluation
from lit_unlearn.callbacks.throughput import Throughput
from lit_unlearn.callbacks.weight_interpolation import WeightInterpolation

__all__ = ["AnswerEvaluation", "GradientMonitor", "HuggingFaceExport", "LossBounds", "Resumable"]
__all__ += ["PredictionFile", "SuiteEvaluation", "Throughput", "WeightInterpolation"]
