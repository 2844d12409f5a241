"""Data sets of others: one small file per format turns documents into judgements, purely.

A format is a function from one document to what it says: a `Judgement`, or a `Skip` with the reason
why there is none. A document that is not in the format raises `InvalidFeedbackError`; nothing is
ever guessed.
"""

from feedback_store.foreign.judgement import Judgement, Reply, Skip

__all__ = ["Judgement", "Reply", "Skip"]
