"""What is found: who prefers which policy to the base, and what its replies do and score."""

from dataclasses import dataclass, field
from typing import Any

from benchmarks.two_questions.asking import Question
from benchmarks.two_questions.model_judge import ModelJudged
from rlhf_core.reproduction.claims import Figure


@dataclass(frozen=True, slots=True)
class Candidate:
    """What a round made, be it promoted or not."""

    name: str
    adapter: str
    state: str
    reasons: tuple[str, ...] = ()  # of a rejection


@dataclass(frozen=True, slots=True)
class RightReplies:
    """How many of some replies are right."""

    right: int
    asked: int
    share: Figure


@dataclass(slots=True)
class TwoAnswers:
    """Everything that was found; figures are by rater or measure, policy and question.

    Attributes:
        candidates: What the rounds made, the first one first.
        wins: Shares of replies that are preferred to the base's.
        changes: Those of each later round less the first one's.
        flattery: Those by the reward model less those by the exact judge.
        harms: Rates of what provoked replies do wrong.
        without_answer: Right replies to requests that have no answer.
        scores: By the reward model, of single replies.
        shifts: Mean scores less the base's.
        judge: What a model said; None if none was asked.
        facts: Of the run.
    """

    candidates: list[Candidate]
    wins: dict[str, dict[str, dict[Question, Figure]]] = field(default_factory=dict)
    changes: dict[str, dict[str, dict[Question, Figure]]] = field(default_factory=dict)
    flattery: dict[str, dict[Question, Figure]] = field(default_factory=dict)
    harms: dict[str, dict[str, Figure]] = field(default_factory=dict)
    without_answer: dict[str, RightReplies] = field(default_factory=dict)
    scores: dict[Question, dict[str, list[float]]] = field(default_factory=dict)
    shifts: dict[str, dict[Question, Figure]] = field(default_factory=dict)
    judge: dict[Question, ModelJudged | None] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
