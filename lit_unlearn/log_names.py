"""Names of the logged scalars, each with its unit."""

from collections.abc import Iterator, Sequence
from itertools import combinations

__all__ = ["CONFLICT_RATE", "GRADIENT_NORM_TOTAL", "LEARNING_RATE", "MFU", "MODEL_TFLOPS"]
__all__ += ["PADDING_SHARE", "PEAK_MEMORY", "STEP_SECONDS", "STUDENT_TOKENS", "TEACHER_TOKENS"]
__all__ += ["COSINE_CHART", "LOSS_CHART", "NORM_CHART", "OPPOSED_CHART", "UPDATE_CHART"]
__all__ += ["WEIGHT_CHART", "chart_with_name", "cosine_name", "figure_name", "final_name"]
__all__ += ["gradient_norm_name", "layer_cosine_name", "loss_name", "pairs", "phase_name"]
__all__ += ["statistic_name", "update_cosine_name", "validation_name", "weight_name"]

LEARNING_RATE = "train/learning_rate"
GRADIENT_NORM_TOTAL = "grad_norm/update"  # 2-norm of the combined gradient before clipping
CONFLICT_RATE = "conflict/rate"  # share of objective pairs with a negative cosine, 0 to 1
STEP_SECONDS = "time/step_s"  # wall seconds of one training step
STUDENT_TOKENS = "throughput/student_tokens_per_s"  # real tokens of the rows, without padding
TEACHER_TOKENS = "throughput/teacher_tokens_per_s"  # real tokens, including cached ones
PADDING_SHARE = "throughput/padding_share"  # share of the student's computed positions, 0 to 1
MODEL_TFLOPS = "throughput/model_tflops"  # 10^12 operations a second; see callbacks.Throughput
MFU = "throughput/mfu"  # MODEL_TFLOPS as a share of the device's peak, 0 to 1
PEAK_MEMORY = "memory/peak_gib"  # GiB: resident set on CPU, allocator peak on GPU

phase_name = "time/{}_s".format
"""Name of the wall seconds of one phase of a step."""
loss_name = "loss/{}".format
"""Name of an objective's unweighted loss (unit: see the objective's docstring)."""
statistic_name = "{1}/{0}".format
"""Name of another figure (second) of an objective, such as the mass outside its support."""
figure_name = "eval/{}/{}".format
"""Name of a figure of an evaluation during training (unit: see the figure)."""
validation_name = "val/{}/{}".format
"""Name of a figure (first) of an objective's validation rows; see `training.validation`."""
weight_name = "weight/{}".format
"""Name of the weight of an objective's gradient in the update."""
gradient_norm_name = "grad_norm/{}".format
"""Name of the 2-norm of the gradient of an objective's unweighted loss."""
cosine_name = "grad_cos/{}~{}".format
"""Name of the cosine of two gradients: -1 to 1, NaN if one is zero or at rest."""
layer_cosine_name = "grad_cos_layers/{}~{}/{}".format
"""Name of the same cosine within one layer group."""
update_cosine_name = "grad_cos_update/{}".format
"""Name of the cosine, -1 to 1, of an objective's gradient with the update."""

COSINE_CHART = "compare/cosine"
"""Chart of TensorBoard with the curves of `cosine_name`, one for each pair."""
OPPOSED_CHART = "compare/cosine_opposed"
"""Chart of the pairs of which one objective expects that the model declines, and one an answer."""
chart_with_name = "compare/with/{}".format
"""Name of the chart with the curves of the pairs of one objective."""
UPDATE_CHART = "compare/cosine_update"
NORM_CHART, LOSS_CHART, WEIGHT_CHART = "compare/gradient_norm", "compare/loss", "compare/weight"
"""Charts with a curve for each objective: `gradient_norm_name`, `loss_name`, `weight_name`."""
final_name = "final/{}".format
"""Name of a figure of a whole run in TensorBoard's tab HPARAMS."""


def pairs(objectives: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Return the index pairs ``i < j`` of objectives, in the order in which they are logged."""
    return combinations(range(len(objectives)), 2)
