"""Chatbot Arena: two models answer one person, who then says which was better.

The vote is about two whole conversations. If they differ in the last reply only, it compares two
replies to one prompt; all others are left out, not cut. Votes of people who saw the models' names
are left out, too. "tie (bothbad)" is "both bad", not a tie.

Source:
    Zheng et al. 2023, arXiv:2306.05685; the data set `lmsys/chatbot_arena_conversations`.
"""

from typing import Any

from feedback_store.datasets.judgement import (
    LONGEST_NAME,
    PARTED,
    TURNS,
    ForeignReply,
    Judgement,
    Parts,
    Skip,
    checked,
    messages_of,
    required,
    shown,
    utc,
)
from feedback_store.errors import InvalidFeedbackError

NOT_BLIND = "the models' names were shown"
_PLACES = {"model_a": (0, 1), "model_b": (1, 0), "tie": (0, 0), "tie (bothbad)": None}


def read(document: Any) -> Parts:
    """The judgement in one row."""
    winner = required(document, "winner", str)
    if winner not in _PLACES:
        raise InvalidFeedbackError(f"'winner' cannot be {shown(winner)}")
    question, judge = (_name(document, name) for name in ("question_id", "judge"))
    sides = [messages_of(document, f"conversation_{side}") for side in "ab"]
    models = [required(document, f"model_{side}", str) for side in "ab"]
    if document.get("anony") is False:
        return [Skip(NOT_BLIND)]
    if any(not side or side[-1]["role"] != "assistant" for side in sides):
        return [Skip(TURNS)]
    if sides[0][:-1] != sides[1][:-1]:
        return [Skip(PARTED)]
    replies = tuple(ForeignReply(s[-1]["content"], m) for s, m in zip(sides, models, strict=True))
    at = utc(document.get("tstamp"))
    prompt, places = sides[0][:-1], _PLACES[winner]
    return [checked(Judgement(judge, question, prompt, replies, places, created_at=at))]


def _name(document: Any, name: str) -> str:
    value = str(required(document, name, str, int))
    if not 0 < len(value) <= LONGEST_NAME:
        raise InvalidFeedbackError(f"{name!r} cannot be {shown(value)}")
    return value
