"""Helpers that are independent of unlearning: files, progress, limits, JSON."""
