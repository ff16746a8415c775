"""Attacks: what brings back a forgotten answer by changing the model or optimising its input.

`relearn` fine-tunes a copy, `quantise` rounds its weights; `soft_prompt` and `gcg` optimise what
stands after the question, as vectors and as text; `inputs` makes room for it in a prompt. All are
functions of a model and token ids; the suites of the same names put them to use.
"""
