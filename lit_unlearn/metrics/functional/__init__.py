"""Metrics as pure functions of strings, numbers and tensors."""
