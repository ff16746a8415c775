"""Multi-objective unlearning for language models."""

__version__ = "0.1.0"
