"""Attacks that try to recover a forgotten answer by changing the model or its input.

`relearning` fine-tunes a copy, `quantisation` rounds its weights, `pruning` removes some of them;
`copies` makes such copies. `soft_prompt` and `gcg` optimise vectors or text after the question;
`inputs` inserts these into a prompt. All are functions of a model and token ids; suites of the
evaluation apply them.
"""
