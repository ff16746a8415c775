"""Metrics of forgetting and of what is kept; `functional` holds them as pure functions."""
