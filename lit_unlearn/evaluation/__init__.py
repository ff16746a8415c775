"""Evaluation of models by suites of questions.

* A *suite* defines one benchmark or attack; it holds no model (`suites/`).
* A *probe* is one question of a suite: texts to teacher-force, a reply to generate, or both.
* A *subject* is a model under evaluation.
* An *outcome* holds the token statistics and replies of a subject for one probe.
* A *row* is one scored question, a *figure* one number of the table; suites compute both.
* A *record* holds the rows and figures of one subject.

`evaluate` and `compare` are the functions to call. `suite_run` computes the outcomes that are not
stored yet (`outcome_store`), by `asking` and `teacher_forced`; `balancing` computes the balanced
score from two records.
"""
