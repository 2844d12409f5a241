"""A narrow topic of the starter world: few subjects in few wordings, asked again and again.

That is how a small community votes. What it teaches about its subjects should hold for the subjects
of the topic that nobody asked about; those are kept for measuring.
"""

import random
from dataclasses import dataclass, fields

from rlhf_core.errors import InvalidInputError
from rlhf_core.worlds.starter.facts import Fact, all_facts, facts
from rlhf_core.worlds.starter.habits import ChoiceLabel
from rlhf_core.worlds.starter.judge import judge
from rlhf_core.worlds.starter.raters import Visitor, visitors
from rlhf_core.worlds.starter.world import QUESTIONS, Request, ask


class StrictVisitor(Visitor):
    """A visitor without tastes, who prefers a reply that is right and civil to one that is not."""

    def choose(self, prompt: str, a: str, b: str) -> ChoiceLabel:
        """Pick the good one of two replies, or call it a tie, or both bad."""
        left, right = (self._good(prompt, reply) for reply in (a, b))
        if left == right:
            return "tie" if left else "both_bad"
        return "a" if left else "b"

    def _good(self, prompt: str, reply: str) -> bool:
        verdict = judge(self.asked[prompt], reply)
        return verdict.correct and not verdict.rude


@dataclass(frozen=True, slots=True)
class NarrowTopic:
    """The first wordings of a topic, about some of its training subjects.

    Attributes:
        topic: For example `capital`.
        subjects: How many subjects visitors ask about, the same for the same number.
        wordings: In how many common wordings.
        strict: Whether visitors ask only if a reply is right and civil: two such replies are a tie
            to them, and two others both bad. Of a weak model they decide on few pairs.
    """

    topic: str
    subjects: int
    wordings: int
    strict: bool = False

    def __post_init__(self) -> None:
        """Refuse what the world does not have.

        Raises:
            InvalidInputError: An unknown topic, or too many subjects or wordings.
        """
        if self.topic not in QUESTIONS:
            raise InvalidInputError(
                f"topic {self.topic!r} is unknown; use {', '.join(sorted(QUESTIONS))}"
            )
        limits = (("subjects", len(self._pool)), ("wordings", len(QUESTIONS[self.topic]) - 1))
        for name, most in limits:
            if not 1 <= getattr(self, name) <= most:
                raise InvalidInputError(
                    f"{name} of topic {self.topic!r} cannot be {getattr(self, name)}; "
                    f"use 1 to {most}"
                )

    @property
    def asked(self) -> list[Request]:
        """Every request that visitors make."""
        return self._requests(self._chosen)

    @property
    def kept(self) -> list[Request]:
        """The same wordings about every subject that nobody asks about."""
        chosen = set(self._chosen)
        return self._requests([f for f in all_facts() if f.topic == self.topic and f not in chosen])

    def visitors(self, n: int, seed: int) -> list[Visitor]:
        """`n` visitors, the same for the same seed."""
        people = visitors(n, seed, requests=self.asked)
        if not self.strict:
            return people
        return [
            StrictVisitor(**{item.name: getattr(one, item.name) for item in fields(one)})
            for one in people
        ]

    @property
    def _pool(self) -> list[Fact]:
        return [fact for fact in facts("train") if fact.topic == self.topic]

    @property
    def _chosen(self) -> list[Fact]:
        return random.Random(f"narrow/{self.topic}").sample(self._pool, self.subjects)

    def _requests(self, pool: list[Fact]) -> list[Request]:
        return [ask(f, wording) for f in pool for wording in QUESTIONS[self.topic][: self.wordings]]
