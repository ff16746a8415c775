"""One engine for all questions asked of a model.

* A *suite* holds the definitions of one benchmark or attack, and no model (`suites/`).
* A *probe* is one question of a suite: texts to be teacher-forced, a reply to be written, or both.
* A *subject* is a model under evaluation.
* An *outcome* is what a subject did with a probe.
* A *row* is one scored question, a *figure* one number of the table; suites make both of outcomes.
* A *record* keeps the rows and figures of one subject.

`evaluate` and `compare` are the functions to call. Below them `suite_run` asks what is not stored
yet (`outcome_store`), by `asking` and `teacher_forced`; `balancing` makes the balanced score of two
records.
"""
