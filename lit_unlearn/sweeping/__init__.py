"""Runs over seeds and grids, each in a separate process and folder."""
