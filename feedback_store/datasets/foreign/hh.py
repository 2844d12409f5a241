r"""Anthropic's HH: two transcripts, "\n\nHuman: ... \n\nAssistant: ...", one found better.

Transcripts that part before the last reply answer different prompts, so they do not compare two
replies to one. The file does not say who judged: each conversation counts as one person's.

Source:
    Bai et al. 2022, arXiv:2204.05862; the data set `Anthropic/hh-rlhf`.
"""

import re
from typing import Any

from feedback_store.datasets.foreign.judgement import (
    PARTED,
    TURNS,
    ForeignReply,
    Judgement,
    Parts,
    Skip,
    checked,
    digest,
)
from feedback_store.datasets.foreign.values import required
from feedback_store.errors import InvalidFeedbackError
from feedback_store.records import Prompt, PromptMessage

_SPEAKER = re.compile(r"(?:\A|\n\n)(Human|Assistant):")
_ROLES = {"Human": "user", "Assistant": "assistant"}


def read(document: Any) -> Parts:
    """The judgement in one line."""
    chosen, rejected = _turns(document, "chosen"), _turns(document, "rejected")
    if any(turns[-1]["role"] != "assistant" for turns in (chosen, rejected)):
        return [Skip(TURNS)]
    if chosen[:-1] != rejected[:-1]:
        return [Skip(PARTED)]
    opening = digest(chosen[0]["content"])
    replies = ForeignReply(chosen[-1]["content"]), ForeignReply(rejected[-1]["content"])
    return [checked(Judgement(opening, opening, chosen[:-1], replies, (0, 1)))]


def _turns(document: Any, name: str) -> Prompt:
    before, *rest = _SPEAKER.split(required(document, name, str))
    if before.strip() or not rest:
        raise InvalidFeedbackError(f"{name!r} does not begin with 'Human:'")
    spoken = zip(rest[::2], rest[1::2], strict=True)
    return tuple(PromptMessage(role=_ROLES[who], content=text.strip()) for who, text in spoken)
