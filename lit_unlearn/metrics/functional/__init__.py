"""Metrics as pure functions of texts, numbers and tensors."""
