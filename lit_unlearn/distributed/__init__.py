"""Several processes: sums and shared work, sharded models, strategies."""
