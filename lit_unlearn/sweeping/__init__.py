"""Runs over seeds and grids, each in a process and a folder of its own."""
