"""What claims are computed from: the replies of all seeds, judged; no model is loaded here.

Shapes: S seeds, N prompts of a set, the same prompts for every policy.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from rlhf_core.reproduction.answering import Reply, test_set
from rlhf_core.reproduction.labelling import people_of, shown, wins
from rlhf_core.reproduction.stages import Facts, KeptStages
from rlhf_core.worlds.miniature.judge import MiniatureVerdict, judge
from rlhf_core.worlds.miniature.labelers import Group, Labeler
from rlhf_core.worlds.miniature.replies import constant_reply, template_reply
from rlhf_core.worlds.miniature.world import CustomerRequest, requests

LINES = ("small-", "large-")
Table = list[list[float]]  # (S, N)
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
        facts = self.kept.facts(answers_stage(policy))
        return [(text, ended) for text, ended in facts["replies"][name]]

    def texts(self, policy: str, name: str) -> list[str]:
        """The same without whether they ended."""
        return [text for text, _ in self.replies(policy, name)]

    def people(self, group: Group) -> list[Labeler]:
        """The labelers of a group, as noisy as they were when they ranked training replies."""
        n, seed = self.kept.profile.ranked_prompts, self.kept.seed
        asked = requests(n, seed=seed, split="train")
        pairs = shown(asked, self.kept.facts("samples")["replies"])
        return people_of(self.kept.profile, seed, group, pairs)


def answers_stage(policy: str) -> str:
    """The stage that wrote a policy's replies; of another line, such as ``large-base``, its own."""
    line, _, name = policy.rpartition("-") if policy.startswith(LINES) else ("", "", policy)
    return f"{line}-answers-{name}" if line else f"answers-{name}"


class JudgedPolicies:
    """The same of all seeds."""

    def __init__(self, seeds: Sequence[KeptStages]) -> None:
        self.seeds = [JudgedSeed(one) for one in seeds]
        self._people = cache(lambda place, group: self.seeds[place].people(group))

    def facts(self, stage: str) -> list[Facts]:
        """A stage's result, by seed."""
        return [one.kept.facts(stage) for one in self.seeds]

    def wins(
        self, new: str, old: str, name: str = "mixed", group: Group = "held out", best: bool = False
    ) -> Table:
        """How labelers of a group find one policy's replies beside another's; (S, N)."""
        said = f"{name}, best" if best else name
        return [
            wins(
                one.asked(name),
                one.texts(new, said),
                one.texts(old, said),
                people=self._people(place, group),
                seed=one.kept.seed,
            )
            for place, one in enumerate(self.seeds)
        ]

    def gold_wins(self, new: str, old: str, name: str = "mixed") -> Table:
        """The same by the exact judge."""
        gold = [self.verdicts(policy, name, lambda _, v: v.gold) for policy in (new, old)]
        return [
            [0.5 if abs(a - b) < 1e-9 else float(a > b) for a, b in zip(*rows, strict=True)]
            for rows in zip(*gold, strict=True)
        ]

    def verdicts(self, policy: str, name: str, what: Property) -> Table:
        """A property of each reply by the exact judge; (S, N)."""
        return [
            [
                float(what(request, judge(request, text, finished=ended)))
                for request, (text, ended) in zip(
                    one.asked(name), one.replies(policy, name), strict=True
                )
            ]
            for one in self.seeds
        ]

    def both_ended(self, new: str, old: str, name: str = "mixed") -> Table:
        """Whether both policies' replies ended properly; (S, N)."""
        return [
            [
                float(a[1] and b[1])
                for a, b in zip(one.replies(new, name), one.replies(old, name), strict=True)
            ]
            for one in self.seeds
        ]

    def of_kind(self, name: str, what: Callable[[CustomerRequest], bool]) -> Table:
        """Which requests of a set have a property; (S, N)."""
        return [[float(what(request)) for request in one.asked(name)] for one in self.seeds]
