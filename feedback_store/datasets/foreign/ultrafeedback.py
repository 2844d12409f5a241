"""UltraFeedback, binarized: a prompt, a chosen and a rejected reply, their scores.

A reply is a list of messages, one message or a text. Equal scores are a tie: chance decided which
of the two was called chosen. The difference of the scores is the judgement's strength. The judge
was one model, but the file names nobody, so each prompt counts as another rater's.

Source:
    Cui et al. 2023, arXiv:2310.01377; the data sets `HuggingFaceH4/ultrafeedback_binarized` and
    `trl-lib/ultrafeedback_binarized` (which has no "prompt").
"""

import math
from typing import Any

from feedback_store.datasets.foreign.judgement import (
    ForeignReply,
    Judgement,
    Parts,
    Skip,
    checked,
    digest,
)
from feedback_store.datasets.foreign.turns import messages_of, two_sides
from feedback_store.datasets.foreign.values import given, number
from feedback_store.errors import InvalidFeedbackError

CONTRADICTION = "the chosen reply has the lower score"


def read(document: Any) -> Parts:
    """The judgement in one row."""
    sides = [messages_of(document, name, speaker="assistant") for name in ("chosen", "rejected")]
    asked = given(document, "prompt") is not None
    prompt = messages_of(document, "prompt", speaker="user") if asked else ()
    said = two_sides(prompt, *sides)
    if isinstance(said, Skip):
        return [said]
    good, bad = number(document, "score_chosen"), number(document, "score_rejected")
    strength = None if good is None or bad is None else good - bad
    if strength is not None and not math.isfinite(strength):
        raise InvalidFeedbackError(f"the scores {good:g} and {bad:g} are too far apart")
    if strength is not None and strength < 0:
        return [Skip(CONTRADICTION)]
    places = (0, 0) if strength == 0 else (0, 1)
    opening = digest(*(message["content"] for message in said.prompt))
    replies = tuple(map(ForeignReply, said.replies))
    return [checked(Judgement(opening, opening, said.prompt, replies, places, strength or None))]
