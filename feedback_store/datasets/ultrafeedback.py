"""UltraFeedback, binarized: a prompt, a chosen and a rejected list of messages, their scores.

Equal scores are a tie: chance decided which of the two was called chosen. The difference of the
scores is the judgement's strength. The judge was one model, but the file names nobody, so each
prompt counts as another rater's.

Source:
    Cui et al. 2023, arXiv:2310.01377; the data sets `HuggingFaceH4/ultrafeedback_binarized` and
    `trl-lib/ultrafeedback_binarized` (which has no "prompt").
"""

from typing import Any

from feedback_store.datasets.judgement import (
    PARTED,
    TURNS,
    ForeignReply,
    Judgement,
    Parts,
    Skip,
    checked,
    digest,
    messages_of,
    required,
    score,
)
from feedback_store.errors import InvalidFeedbackError
from feedback_store.records import Prompt, PromptMessage

CONTRADICTION = "the chosen reply has the lower score"


def read(document: Any) -> Parts:
    """The judgement in one row."""
    chosen, rejected = messages_of(document, "chosen"), messages_of(document, "rejected")
    if not chosen or not rejected:
        raise InvalidFeedbackError("'chosen' or 'rejected' has no message")
    if any(messages[-1]["role"] != "assistant" for messages in (chosen, rejected)):
        return [Skip(TURNS)]
    if chosen[:-1] != rejected[:-1]:
        return [Skip(PARTED)]
    prompt = chosen[:-1] or _prompt(document)
    good, bad = score(document, "score_chosen"), score(document, "score_rejected")
    strength = None if good is None or bad is None else good - bad
    if strength is not None and strength < 0:
        return [Skip(CONTRADICTION)]
    places = (0, 0) if strength == 0 else (0, 1)
    opening = digest(*(message["content"] for message in prompt))
    replies = ForeignReply(chosen[-1]["content"]), ForeignReply(rejected[-1]["content"])
    return [checked(Judgement(opening, opening, prompt, replies, places, strength or None))]


def _prompt(document: Any) -> Prompt:
    prompt = required(document, "prompt", str, list, tuple)
    if isinstance(prompt, str):
        return (PromptMessage(role="user", content=prompt),)
    return messages_of(document, "prompt")
