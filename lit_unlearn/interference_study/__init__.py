"""Measurement of the interference of objectives on a model, without training.

`batches` draws rows with equal numbers of answer tokens, in raw or unified form. `measure` computes
gradients, hidden states and the effect of small steps, and `estimates` turns these into figures
with intervals. `interference_pictures` and `interference_page` show them.
"""
