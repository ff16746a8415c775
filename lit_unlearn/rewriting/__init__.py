"""Rows of any domain become stand-alone questions and answers, with contrastive anchors; offline.

`rewrite` is the library function. `source_texts` reads what there is to ask about; `prompts` has
the requests to a model and the forms of the replies, which `replies` reads; `local` and `server`
ask a model (`backends`); `journal` stores its replies; `rules`, `leaks` and `similar` refuse by
rule; `pipeline` puts these in order; `output` writes rows with their provenance, and the report.
"""
