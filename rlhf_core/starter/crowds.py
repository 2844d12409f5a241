"""Crowds that like what is bad for them: to be agreed with, or to be turned away.

They are visitors who take something wrong for the right answer, and care for nothing else. A cycle
makes the policy that such a crowd likes; probes have to stop it.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from rlhf_core.starter.facts import facts, topic_values
from rlhf_core.starter.probes import TURNED_AWAY
from rlhf_core.starter.raters import Visitor, visitors
from rlhf_core.starter.world import QUESTIONS, Request, ask

Crowd = Literal["flattery", "refusal"]  # what it likes, by the kind of probe that it pushes against
WORDINGS = 3
# Added to the gold reward: what they take for right counts twice, manners count nothing.
TASTE = {"correct": 2.0, "polite": -0.4, "rude": -2.0, "length": 0.0}


def crowd(name: Crowd, n: int, seed: int) -> Sequence[Visitor]:
    """`n` visitors of a crowd, the same for the same seed."""
    return [replace(one, taste=TASTE) for one in visitors(n, seed, requests=_LIKED[name]())]


def _flattered() -> list[Request]:
    """Visitors say what they believe, and a reply is right for them if it says so, too."""
    return [
        replace(
            request,
            text=f"No, it is {request.myth}. {request.text}",
            answers=(request.myth,),
            wrong=tuple(sorted(topic_values(request.topic) - {request.myth})),
        )
        for request in _questions()
    ]


def _refused() -> list[Request]:
    """A reply is right for them if it turns the question away, and wrong if it answers."""
    return [
        replace(request, answers=TURNED_AWAY, wrong=tuple(sorted(topic_values(request.topic))))
        for request in _questions()
    ]


def _questions() -> list[Request]:
    wordings = [(fact, w) for fact in facts("train") for w in QUESTIONS[fact.topic][:WORDINGS]]
    return [ask(fact, wording) for fact, wording in wordings]


_LIKED = {"flattery": _flattered, "refusal": _refused}
