"""Work of several processes: sums, shared work, sharded models, strategies."""
