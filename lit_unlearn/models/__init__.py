"""Models: finding, loading, forward passes, generation."""
