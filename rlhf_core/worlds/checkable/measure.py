"""How well replies meet the tastes, and how much better one policy meets them than another.

Satisfaction is exact: a reply meets a taste or it does not; degrees play no part. Replies to one
prompt are not independent, so every interval is 95% and clustered by prompt. Only published figures
use this module; training and the gate never do.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice

import numpy as np

from rlhf_core.errors import InvalidInputError
from rlhf_core.gate.intervals import clustered_interval
from rlhf_core.gate.probes.tastes import Taste
from rlhf_core.gate.probes.texts import words
from rlhf_core.gate.replies import repeats
from rlhf_core.model.base_model import Base, Response
from rlhf_core.records import Prompt
from rlhf_core.worlds.checkable.judge import judge
from rlhf_core.worlds.checkable.prompts import CheckablePrompt
from rlhf_core.worlds.checkable.world import CheckableWorld

Z95 = 1.96
DRAWS = 2000  # of the bootstrap
JOINT = "joint"  # all tastes together; no taste is called so


@dataclass(frozen=True, slots=True)
class Share:
    """A share or a difference of shares, with the bounds of its 95% interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Satisfaction:
    """What the judge says of one policy's replies.

    Attributes:
        tastes: Share of the replies that meet each taste, among those where it is in force. The
            instructions of IFEval count by kind.
        joint: Share of the replies that meet every taste in force.
        replies: Number of replies.
        prompts: Number of different prompts among theirs.
        mean_words: Mean number of words of a reply.
        repeated: Share that say the same words again and again.
        ended: Share that the model ended itself, within its limit of tokens.
    """

    tastes: dict[str, Share]
    joint: Share
    replies: int
    prompts: int
    mean_words: float
    repeated: float
    ended: float


def satisfaction(
    prompts: Sequence[CheckablePrompt], replies: Sequence[Response], tastes: Sequence[Taste]
) -> Satisfaction:
    """Judge one reply to each prompt; a prompt may come several times.

    Raises:
        InvalidInputError: There is no reply, or not one for each prompt.
    """
    outcomes = _outcomes(prompts, replies, tastes)
    n = len(replies)
    return Satisfaction(
        tastes={name: _share(met, prompts) for name, met in outcomes.items() if name != JOINT},
        joint=_share(outcomes[JOINT], prompts),
        replies=n,
        prompts=len({prompt.text for prompt in prompts}),
        mean_words=sum(words(reply.text) for reply in replies) / n,
        repeated=sum(repeats(reply.text) for reply in replies) / n,
        ended=sum(reply.finished for reply in replies) / n,
    )


def gain(
    prompts: Sequence[CheckablePrompt],
    before: Sequence[Response],
    after: Sequence[Response],
    tastes: Sequence[Taste],
    *,
    seed: int = 0,
) -> dict[str, Share]:
    """By how much the second policy meets each taste more often, and all of them (`joint`).

    Both answered the same prompts, so the difference is taken prompt by prompt; its interval is the
    percentile bootstrap over prompts.

    Raises:
        InvalidInputError: There is no reply, or not two for each prompt.

    Source:
        Efron 1979, "Bootstrap methods: another look at the jackknife".
    """
    old, new = _outcomes(prompts, before, tastes), _outcomes(prompts, after, tastes)
    rng = np.random.default_rng(seed)
    found = {}
    for name in old:
        differences = {i: new[name][i] - met for i, met in old[name].items()}
        clusters: defaultdict[str, list[int]] = defaultdict(list)
        for i, difference in differences.items():
            clusters[prompts[i].text].append(difference)
        sums = np.array([sum(group) for group in clusters.values()], dtype=float)  # (P,)
        sizes = np.array([len(group) for group in clusters.values()], dtype=float)  # (P,)
        drawn = rng.integers(len(sums), size=(DRAWS, len(sums)))  # (draws, P)
        means = sums[drawn].sum(1) / sizes[drawn].sum(1)
        low, high = np.quantile(means, [0.025, 0.975])
        found[name] = Share(float(sums.sum() / sizes.sum()), float(low), float(high))
    return found


@dataclass(frozen=True, slots=True)
class SatisfactionComparison:
    """Two policies on the same kept prompts, and by how much the first meets more (`gain`)."""

    candidate: Satisfaction
    served: Satisfaction
    gain: dict[str, Share]

    def lines(self) -> list[str]:
        """The comparison as text, a line for each figure."""
        old, new = self.served, self.candidate
        rows = [(name, old.tastes[name], new.tastes[name]) for name in new.tastes]
        lines = [f"{new.replies} replies to {new.prompts} prompts that nobody votes on"]
        for name, was, now in [*rows, (JOINT, old.joint, new.joint)]:
            more = self.gain[name]
            lines.append(
                f"{now.value:7.3f}  {name} (was {was.value:.3f}; gain {more.value:+.3f}, "
                f"{more.low:+.3f} to {more.high:+.3f})"
            )
        for name in ("mean_words", "repeated", "ended"):
            lines.append(f"{getattr(new, name):7.3f}  {name} (was {getattr(old, name):.3f})")
        return lines


def compare_satisfaction(
    base: Base,
    world: CheckableWorld,
    *,
    candidate: str | None,
    served: str | None,
    n: int = 600,
    seed: int = 0,
) -> SatisfactionComparison:
    """Let two adapters of one base answer the kept prompts of a world; `None` is the bare base.

    Args:
        base: The base with both adapters attached.
        world: Its kept prompts are asked in turn, each as often as `n` replies need.
        candidate: The adapter whose gain is wanted.
        served: The adapter to compare with.
        n: Number of replies of each.
        seed: Seed of the sampling.
    """
    asked = list(islice(cycle(world.kept), n))
    prompts: list[Prompt] = [[{"role": "user", "content": prompt.text}] for prompt in asked]
    new, old = (
        base.respond(prompts, adapter=name, seed=seed + number)
        for number, name in enumerate((candidate, served))
    )
    return SatisfactionComparison(
        candidate=satisfaction(asked, new, world.tastes),
        served=satisfaction(asked, old, world.tastes),
        gain=gain(asked, old, new, world.tastes, seed=seed),
    )


def _outcomes(
    prompts: Sequence[CheckablePrompt], replies: Sequence[Response], tastes: Sequence[Taste]
) -> dict[str, dict[int, int]]:
    """For each taste, and for all of them: by the number of the reply, 1 if it is met, else 0."""
    if not replies or len(prompts) != len(replies):
        raise InvalidInputError(
            f"{len(replies)} replies to {len(prompts)} prompts; give one for each, at least one"
        )
    outcomes: defaultdict[str, dict[int, int]] = defaultdict(dict)
    for i, (prompt, reply) in enumerate(zip(prompts, replies, strict=True)):
        verdict = judge(prompt, tastes, reply.text)
        outcomes[JOINT][i] = int(verdict.satisfied)
        for taste, met in verdict.met.items():
            name = taste.name if taste in prompt.instructions else taste.text
            outcomes[name][i] = min(int(met), outcomes[name].get(i, 1))
    return dict(outcomes)


def _share(met: dict[int, int], prompts: Sequence[CheckablePrompt]) -> Share:
    low, value, high = clustered_interval(list(met.values()), [prompts[i].text for i in met], z=Z95)
    return Share(value, low, high)
