"""The interference of objectives on a model, measured without training, in raw and unified form.

`batches` draws rows with equal numbers of answer tokens, `measure` reads gradients, hidden states
and the effect of small steps, `estimates` turns these into figures with intervals,
`interference_pictures` and `interference_page` show them.
"""
