"""Data: raw rows of a benchmark become the batches of one step."""
