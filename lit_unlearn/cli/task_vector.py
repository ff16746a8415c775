"""`lit-unlearn task-vector`: forget by arithmetic on weights, without training."""

from lit_unlearn.cli.parsing import call
from lit_unlearn.models.task_vector import task_vector
from lit_unlearn.utils.tables import terminal

__all__ = ["main"]


def main(args: list[str]) -> None:
    """Run the command."""
    written = call(task_vector, args, "model")
    text = f"{written.folder}: {written.model} minus a vector of {written.size:.2%} of its length"
    terminal().print(text, soft_wrap=True)
