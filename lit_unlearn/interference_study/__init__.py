"""The interference of objectives on a model, measured without training, in raw and unified form.

`batches` draws rows with equal numbers of answer tokens, `measure` reads gradients, hidden states
and the effect of small steps, `figures` turns these into lines with intervals, `pictures` and
`page` show them. Free of Lightning.
"""
