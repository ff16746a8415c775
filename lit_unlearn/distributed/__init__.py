"""Several processes: what they share, how models are sharded over them, the strategies."""
