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


@dataclass(slots=True)
class TwoAnswers:
    """Everything that was found; figures are by rater or measure, policy and question."""

    candidates: list[Candidate]
    wins: dict[str, dict[str, dict[Question, Figure]]] = field(default_factory=dict)
    harms: dict[str, dict[str, Figure]] = field(default_factory=dict)
    scores: dict[Question, dict[str, list[float]]] = field(default_factory=dict)
    shifts: dict[str, dict[Question, Figure]] = field(default_factory=dict)
    judge: dict[Question, ModelJudged | None] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
