"""Chatbot Arena: two models answer one person, who then says which was better.

The vote is about two whole conversations. If they differ in the last reply only, it compares two
replies to one prompt; all others are left out, not cut. Votes of people who saw the models' names
are left out, too. "tie (bothbad)" and "both_bad" are "both bad", not a tie. Three releases differ
in their columns: conversations with "winner" (33k, 100k, 140k), and lists of prompts and responses
with a flag for each outcome (55k). A vote without a judge is one of an own rater.

Source:
    Zheng et al. 2023, arXiv:2306.05685, and Chiang et al. 2024, arXiv:2403.04132; the data sets
    `lmsys/chatbot_arena_conversations` and `lmarena-ai/arena-human-preference-55k`, `-100k` and
    `-140k`.
"""

from collections.abc import Sequence
from typing import Any

from feedback_store.datasets.foreign.judgement import (
    PARTED,
    TURNS,
    ForeignReply,
    Judgement,
    Note,
    Parts,
    Skip,
    checked,
    digest,
)
from feedback_store.datasets.foreign.turns import messages_of
from feedback_store.datasets.foreign.values import (
    flag,
    given,
    name_of,
    required,
    required_name,
    shown,
    structured,
    utc,
)
from feedback_store.errors import InvalidFeedbackError
from feedback_store.records import Prompt, PromptMessage

NOT_BLIND = "the models' names were shown"
NOT_SAID = "taken, though nothing says whether the models' names were shown"
_PLACES = {
    "model_a": (0, 1),
    "model_b": (1, 0),
    "tie": (0, 0),
    "tie (bothbad)": None,
    "both_bad": None,
}
_JUDGES = ("judge", "judge_hash", "evaluation_session_id")
_WINNERS = {"winner_model_a": "model_a", "winner_model_b": "model_b", "winner_tie": "tie"}


def read(document: Any) -> Parts:
    """The judgement in one row."""
    winner = _winner(document)
    question = required_name(document, "id" if "question_id" not in document else "question_id")
    named = (name_of(document, name) for name in _JUDGES)
    judge = next((name for name in named if name is not None), None) or digest(question)
    sides = [_side(document, side) for side in "ab"]
    models = [required(document, f"model_{side}", str) for side in "ab"]
    blind = flag(document, "anony")
    if blind is False:
        return [Skip(NOT_BLIND)]
    if any(not side or side[-1]["role"] != "assistant" for side in sides):
        return [Skip(TURNS)]
    if sides[0][:-1] != sides[1][:-1]:
        return [Skip(PARTED)]
    replies = tuple(ForeignReply(s[-1]["content"], m) for s, m in zip(sides, models, strict=True))
    at = utc(given(document, "tstamp") or given(document, "timestamp"))
    prompt, places = sides[0][:-1], _PLACES[winner]
    part = checked(Judgement(judge, question, prompt, replies, places, created_at=at))
    return [part, Note(NOT_SAID)] if blind is None and isinstance(part, Judgement) else [part]


def _winner(document: Any) -> str:
    if given(document, "winner") is None and any(name in document for name in _WINNERS):
        won = [winner for name, winner in _WINNERS.items() if flag(document, name)]
        if len(won) != 1:
            raise InvalidFeedbackError(f"{len(won)} of {', '.join(_WINNERS)} are 1, and not one")
        return won[0]
    winner = str(required(document, "winner", str))
    if winner not in _PLACES:
        raise InvalidFeedbackError(f"'winner' cannot be {shown(winner)}")
    return winner


def _side(document: Any, side: str) -> Prompt:
    if f"conversation_{side}" in document or f"response_{side}" not in document:
        return messages_of(document, f"conversation_{side}")
    prompts, responses = _texts(document, "prompt"), _texts(document, f"response_{side}")
    if len(prompts) != len(responses):
        raise InvalidFeedbackError(
            f"there are {len(prompts)} prompts and {len(responses)} in 'response_{side}'"
        )
    turns = zip(prompts, responses, strict=True)
    return tuple(
        PromptMessage(role=role, content=text)
        for turn in turns
        for role, text in zip(("user", "assistant"), turn, strict=True)
    )


def _texts(document: Any, name: str) -> Sequence[str]:
    """A list of texts, or one text; null in it is an empty one."""
    value = structured(required(document, name, str, list, tuple))
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, (list, tuple)) or not all(isinstance(i, str | None) for i in items):
        raise InvalidFeedbackError(f"{name!r} cannot be {shown(value)}")
    return [item or "" for item in items]
