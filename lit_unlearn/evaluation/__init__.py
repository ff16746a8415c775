"""Measuring a model: probes go in, outcomes come back, suites turn them into figures.

`probes` holds the vocabulary, `measure` lets a model answer, `store` keeps what it said, `run` ties
them together; `suites/` has one file for each benchmark. `answers` is the short look that a
training run takes before and after.
"""
