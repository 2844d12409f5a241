"""What claims are computed from: the replies of all seeds, judged; no model is loaded here.

Shapes: S seeds, N prompts of a set, the same prompts for every policy.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from rlhf_core.reproduction.answering import test_set
from rlhf_core.reproduction.labelling import people_of, shown, wins
from rlhf_core.reproduction.measures.statistics import Table
from rlhf_core.reproduction.policies import Reply
from rlhf_core.reproduction.stages import Facts, KeptStages
from rlhf_core.worlds.miniature.judge import MiniatureVerdict, judge
from rlhf_core.worlds.miniature.labelers import Group, Labeler
from rlhf_core.worlds.miniature.replies import constant_reply, template_reply
from rlhf_core.worlds.miniature.world import CustomerRequest, requests

LINES = ("small-", "large-")
GOLD = "gold reward"  # the unit of figures that are means of it
Property = Callable[[CustomerRequest, MiniatureVerdict], float]


@dataclass(frozen=True)
class JudgedSeed:
    """The replies of one seed, and who judges them."""

    kept: KeptStages

    def asked(self, name: str) -> list[CustomerRequest]:
        """The test requests of a set."""
        return test_set(name.removesuffix(", best"), self.kept.profile.test, self.kept.seed)

    def replies(self, policy: str, name: str) -> list[Reply]:
        """A policy's replies to a set, or a baseline's that must lose."""
        if policy == "constant":
            return [(constant_reply(), True) for _ in self.asked(name)]
        if policy == "template":
            return [(template_reply(request), True) for request in self.asked(name)]
        return replies_of(self.kept.facts(answers_stage(policy)), name)

    def texts(self, policy: str, name: str) -> list[str]:
        """The same without whether they ended."""
        return [text for text, _ in self.replies(policy, name)]

    def people(self, group: Group) -> list[Labeler]:
        """The labelers of a group, as noisy as they were when they ranked training replies."""
        n, seed = self.kept.profile.ranked_prompts, self.kept.seed
        asked = requests(n, seed=seed, split="train")
        pairs = shown(asked, self.kept.facts("samples")["replies"])
        return people_of(self.kept.profile, seed, group, pairs)


def replies_of(facts: Facts, name: str = "mixed") -> list[Reply]:
    """The replies to a set that a stage wrote."""
    return [(text, ended) for text, ended in facts["replies"][name]]


def answers_stage(policy: str) -> str:
    """The stage that wrote a policy's replies; of another line, such as ``large-base``, its own.

    Policies of rounds answer in the stage that trains them.
    """
    if policy.startswith("round-"):
        return policy
    line, _, name = policy.rpartition("-") if policy.startswith(LINES) else ("", "", policy)
    return f"{line}-answers-{name}" if line else f"answers-{name}"


class JudgedPolicies:
    """The same of all seeds."""

    def __init__(self, seeds: Sequence[KeptStages]) -> None:
        self.seeds = [JudgedSeed(one) for one in seeds]
        self._people = cache(lambda place, group: self.seeds[place].people(group))

    def people(self, group: Group) -> list[list[Labeler]]:
        """The labelers of a group, by seed."""
        return [self._people(place, group) for place in range(len(self.seeds))]

    def table(self, rows: Sequence[Sequence[float]], name: str = "mixed") -> Table:
        """A number for each request of a set, which knows the requests' subjects; (S, N)."""
        return table_of(rows, [one.asked(name) for one in self.seeds])

    def facts(self, stage: str) -> list[Facts]:
        """A stage's result, by seed."""
        return [one.kept.facts(stage) for one in self.seeds]

    def wins(
        self, new: str, old: str, name: str = "mixed", group: Group = "held out", best: bool = False
    ) -> Table:
        """How labelers of a group find one policy's replies beside another's; (S, N)."""
        said = f"{name}, best" if best else name
        found = [
            wins(
                one.asked(name),
                one.replies(new, said),
                one.replies(old, said),
                people=people,
                seed=one.kept.seed,
            )
            for one, people in zip(self.seeds, self.people(group), strict=True)
        ]
        return self.table(found, name)

    def gold_wins(self, new: str, old: str, name: str = "mixed") -> Table:
        """The same by the exact judge."""
        mine, other = (self.verdicts(policy, name, lambda _, v: v.gold) for policy in (new, old))
        better = np.round(mine.values - other.values, 9)
        return mine.like(np.sign(better) / 2 + 0.5)

    def verdicts(self, policy: str, name: str, what: Property) -> Table:
        """A property of each reply by the exact judge; (S, N)."""
        return self.judged([one.replies(policy, name) for one in self.seeds], name, what)

    def judged(self, replies: Sequence[Sequence[Reply]], name: str, what: Property) -> Table:
        """The same of replies, by seed, whoever wrote them; (S, N)."""
        found = [
            [
                float(what(request, judge(request, text, finished=ended)))
                for request, (text, ended) in zip(one.asked(name), said, strict=True)
            ]
            for one, said in zip(self.seeds, replies, strict=True)
        ]
        return self.table(found, name)

    def both_ended(self, new: str, old: str, name: str = "mixed") -> Table:
        """Whether both policies' replies ended properly; (S, N)."""
        found = [
            [
                float(a[1] and b[1])
                for a, b in zip(one.replies(new, name), one.replies(old, name), strict=True)
            ]
            for one in self.seeds
        ]
        return self.table(found, name)

    def of_kind(self, name: str, what: Callable[[CustomerRequest], bool]) -> Table:
        """Which requests of a set have a property; (S, N)."""
        found = [[float(what(request)) for request in one.asked(name)] for one in self.seeds]
        return self.table(found, name)


def table_of(rows: Sequence[Sequence[float]], asked: Sequence[Sequence[CustomerRequest]]) -> Table:
    """A number for each of these requests, by seed; each (S, N)."""
    clusters = [[request.cluster for request in row] for row in asked]
    return Table(np.array(rows, dtype=np.float64), np.array(clusters))
