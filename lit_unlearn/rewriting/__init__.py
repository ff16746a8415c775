"""Rows of any domain -> stand-alone questions and answers, and contrastive anchors; offline.

`material` reads what there is to ask about; `prompts` says what a model is asked and in which form
it must reply, `replies` reads that; `local` and `server` ask (`backends`); `journal` keeps what was
said; `checks`, `leaks` and `similar` refuse by rule; `pipeline` puts these in order; `output`
writes rows with their provenance, and the quality report. Free of Lightning.
"""
