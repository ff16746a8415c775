"""Requests to forget: from a request file to a model, its measurements and a verdict.

`folder` names the files of a request, `battery` has the questions that are asked before and after,
and `thresholds` turns figures into a verdict. Nothing here trains or measures by itself.
"""
