"""Metrics of forgetting and of what is kept, usable in any Lightning project.

Each is a `torchmetrics.Metric` over a pure function of the package `functional`.
"""
