"""Data: from the raw rows of data sets to the batches of a step."""
