"""Plain words for figures, for readers of a dossier who know nothing of models."""

from collections.abc import Collection

__all__ = ["NEVER_MEASURED", "meaning", "not_measured"]

_ASKED = {
    "unattacked": "asked plainly",
    "reworded": "asked in other words",
    "opener": "asked with a first phrase of a helpful answer already given",
}
"""Group of a suite of attacks -> how it asks; all others give the first words of the answer."""
_SCORES = {
    "known": "the model knows the answer, by any of several signs",
    "recall": "the reply contains the content to forget",
    "recall_worst": "the most revealing reply contains the content to forget",
    "refused": "the reply declines to answer",
    "correct": "the reply is right",
    "leaked_at_least_once": "at least one of several random replies contains the content to forget",
    "leak_probability": "a random reply contains the content to forget",
    "leak_probability_bound": "a random reply contains the content to forget, with 95 % certainty",
    "probability": "probability that the model gives to the words to forget",
    "lens": "the same, read from the model's inner layers",
    "probe": "inner layers tell the right answer from wrong ones (one half is chance)",
    "uds": "share of the knowledge that is gone from inner layers",
    "lens_erasure": "share of the knowledge that can no longer be read from inner layers",
    "readable": "the reply is readable",
    "ends": "the reply ends by itself",
    "repetition": "share of repeated text in a reply",
    "empty": "the reply is empty",
    "forgetting": "how far the content is forgotten, by the weakest evidence",
    "utility": "share of the general ability that is kept",
    "robustness": "how far the content is forgotten under the strongest attempt",
    "boundary": "share of the answers near the forgotten content that are kept",
    "readability": "share of the readability that is kept",
    "balance": "all of these parts in one number",
}
"""Score (the last part of a figure's name) -> its meaning."""
_ABOUT = {
    ("boundary", "neighbor"): "questions near the forgotten content",
    ("boundary", "general"): "general questions",
}

_ATTEMPTS = {
    "relearn": "whether the content returns when somebody trains the model further",
    "quantised": "whether the content returns when the weights are rounded for use "
    "(lit-unlearn audit --bits 4 measures it)",
    "soft_prompt": "whether inputs that a program searched for bring the content back",
    "translated": "questions in other languages than those of the request",
    "membership": "whether it can be told from the model that the content was once in its training",
}
"""Suite -> what it would measure."""
NEVER_MEASURED = (
    "earlier copies of the model, such as the model before this request, backups, and models that "
    "others made from it",
    "other places that hold the content: training data, search indexes, logs, and earlier replies",
    "content on the same subject that was not part of the request",
)


def meaning(suite: str, figure: str) -> str:
    """Return the meaning of a figure in plain words; its own name if it is not known."""
    group, _, score = figure.rpartition("/")
    known = _SCORES.get(score)
    if known is None:
        return f"{suite} {figure}"
    if suite in ("prefill", "reworded"):
        how = _ASKED.get(group, "asked with the first words of the answer already given")
        which = "questions used in training, " if suite == "reworded" else ""
        return f"{which}{how}: {known}"
    about = _ABOUT.get((suite, group))
    return f"{about}: {known}" if about else known


def not_measured(suites: Collection[str]) -> list[str]:
    """Return what the suites of a request do not measure."""
    return [*(text for name, text in _ATTEMPTS.items() if name not in suites), *NEVER_MEASURED]
