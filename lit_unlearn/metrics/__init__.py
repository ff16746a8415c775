"""How well the model forgot, and what it kept.

`scores` and `refusals` hold pure functions of strings and tensors, one row at a time.
"""
