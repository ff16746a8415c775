"""Rewriting of rows as stand-alone questions and answers with contrastive anchors, before training.

`rewrite` is the library function. `source_texts` reads the rows. `prompts` has the requests to a
model and the JSON schemas of its replies, and `replies` reads these. `local` and `server` are the
models (`backends`), and `journal` stores their replies. `rules`, `leaks` and `similar` are checks
by rule. `pipeline` runs all steps. `output` writes rows with their provenance, and the report.
"""
