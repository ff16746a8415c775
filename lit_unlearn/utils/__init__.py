"""Helpers that know nothing of unlearning: files, progress, limits, JSON."""
