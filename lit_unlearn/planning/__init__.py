"""Estimates of a run's memory, FLOPs, time and disk space before any weights are loaded.

A `Scenario` has the settings of a run, `forward_passes` counts the passes of its objectives,
`memory` and `flops` have the formulas, and `plan` combines them.
"""
