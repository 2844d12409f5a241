"""From comparisons and thumbs to the batches that a reward model trains on.

An element of a batch is one *opinion*: all pairs of one ranking, all pairs of one rater's thumbs on
one prompt, one comparison, or one thumb. The network reads each distinct response of a batch once,
however many pairs it is in. Corrupted copies of preferred responses (`degraded.py`) are added as
rejected ones.

A thumb compares a response with its rater's threshold, which has the score 0. So pairs and thumbs
share one formula. Raters are numbers here, from 1; 0 is a rater whose habits do not matter, because
the same rater compared both responses.
"""

import json
import random
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from rlhf_core.config import RewardSettings
from rlhf_core.model.base_model import Base
from rlhf_core.records import Comparison, Prompt, Unpaired
from rlhf_core.reward.degraded import degrade
from rlhf_core.reward.trunk import Tokens, Trunk

THRESHOLD = -1  # in place of a response: the rater's threshold for a thumb up


@dataclass(frozen=True, slots=True)
class Term:
    """One term of the loss: the first response is better than the second, or they are tied.

    Attributes:
        first: Number of a response of the opinion, or `THRESHOLD`.
        second: The same.
        weight: How much the term counts.
        tied: Whether the rater called it a tie.
        could_tie: Whether the rater could have.
        margin: How much more the first must score, in log-odds, before it is right.
        smoothing: Assumed probability that the vote is wrong.
        raters: Who spoke of the first response and who of the second; 0 where that cancels.
    """

    first: int
    second: int
    weight: float
    tied: bool = False
    could_tie: bool = False
    margin: float = 0.0
    smoothing: float = 0.0
    raters: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class TokenizedOpinion:
    """One opinion: the token ids of its distinct responses, and the terms about them."""

    prompt: str
    responses: tuple[Tokens, ...]
    terms: tuple[Term, ...]

    @property
    def weight(self) -> float:
        """Sum of the weights of its terms."""
        return sum(term.weight for term in self.terms)


def prompt_key(prompt: Prompt) -> str:
    """A text that is the same for the same prompt, and only for it."""
    return json.dumps([(m["role"], m["content"]) for m in prompt])


def opinion_keys(comparisons: Sequence[Comparison]) -> list[Hashable]:
    """Which opinion each comparison is of: the pairs of one ranking have one key."""
    return [
        number if c.group is None else (c.group, prompt_key(c.prompt))
        for number, c in enumerate(comparisons)
    ]


def opinion_shares(comparisons: Sequence[Comparison]) -> list[float]:
    """What part of its opinion each of these comparisons is, so that all of one make 1 together.

    Whoever counts or averages over pairs takes these as weights. Otherwise one ranking of nine
    replies, which is 36 pairs, would count as 36 people's choices.
    """
    keys = opinion_keys(comparisons)
    sizes = Counter(keys)
    return [1 / sizes[key] for key in keys]


class RewardData:
    """Comparisons and thumbs as opinions, tokenized once for all members of an ensemble."""

    def __init__(
        self,
        base: Base,
        comparisons: Sequence[Comparison],
        unpaired: Sequence[Unpaired],
        settings: RewardSettings,
    ) -> None:
        self._base, self._settings = base, settings
        self._read: dict[tuple[str, str], Tokens] = {}  # by prompt and response
        self._strengths = sorted(c.strength for c in comparisons if c.strength is not None)
        named = sorted(
            {r for c in comparisons for r in c.raters or ()} | {u.rater for u in unpaired}
        )
        self._raters = {name: number for number, name in enumerate(named, start=1)}
        groups: dict[Hashable, list[Comparison]] = defaultdict(list)
        for key, c in zip(opinion_keys(comparisons), comparisons, strict=True):
            if c.label != "tie" or settings.tie_weight > 0:
                groups[key].append(c)
        self._groups = [(prompt_key(group[0].prompt), group) for group in groups.values()]
        self._thumbs = [(prompt_key(u.prompt), u) for u in unpaired if settings.unpaired_share > 0]

    @property
    def raters(self) -> int:
        """How many raters get a threshold of their own; their numbers begin at 1."""
        return len(self._raters)

    @property
    def prompts(self) -> list[str]:
        """The key of each prompt, sorted."""
        return sorted({key for key, _ in self._groups} | {key for key, _ in self._thumbs})

    def decides(self, drawn: Counter[str]) -> bool:
        """Whether any comparison of the prompts that were drawn prefers a response."""
        return any(
            drawn[key] and any(c.label != "tie" and c.weight > 0 for c in group)
            for key, group in self._groups
        )

    def opinions(self, drawn: Counter[str], rng: random.Random) -> list[TokenizedOpinion]:
        """Opinions on the prompts that were drawn, as often as each was drawn.

        Their mean weight is 1, so that the learning rate means the same for any data. Thumbs have
        at most `unpaired_share` of the whole weight: there are many, and each says little.
        """
        pairs = [
            self._of_group(key, group, rng)
            for key, group in self._groups
            for _ in range(drawn[key])
        ]
        thumbs = [self._of_thumb(key, u) for key, u in self._thumbs for _ in range(drawn[key])]
        whole, single = (sum(o.weight for o in part) for part in (pairs, thumbs))
        share = self._settings.unpaired_share
        factor = min(1.0, share / (1 - share) * whole / single) if single else 1.0
        scale = (len(pairs) + len(thumbs)) / (whole + factor * single)
        return [
            *(_scaled(opinion, scale) for opinion in pairs),
            *(_scaled(opinion, scale * factor) for opinion in thumbs),
        ]

    def _of_group(
        self, key: str, group: Sequence[Comparison], rng: random.Random
    ) -> TokenizedOpinion:
        """All pairs of one opinion; for some opinions also a corrupted copy as a rejected one."""
        terms: list[tuple[str, str, Term]] = []
        for c in group:
            c = c.swap() if c.label == "b" else c  # now the preferred response is the first
            terms.append((c.response_a, c.response_b, self._term(c, len(group))))
        decided = [(better, term) for better, _, term in terms if not term.tied]
        if decided and rng.random() < self._settings.corrupted_share:
            better, _ = rng.choice(decided)
            worse = degrade(better, rng)
            # a copy that differs only beyond the longest reply is the same to the network
            if worse is not None and self._differ(key, group[0].prompt, better, worse):
                weight = sum(term.weight for _, term in decided)
                terms.append((better, worse, Term(0, 0, weight)))
        return self._opinion(key, group[0].prompt, terms)

    def _term(self, c: Comparison, size: int) -> Term:
        """An opinion's loss is the mean over its pairs, so each pair counts 1/size."""
        tied, settings = c.label == "tie", self._settings
        one, other = c.raters or ("", "")
        return Term(
            first=0,
            second=0,
            weight=c.weight / size * (settings.tie_weight if tied else 1.0),
            tied=tied,
            could_tie=c.could_tie,
            margin=0.0 if tied else settings.strength_margin * self._strength(c.strength),
            smoothing=0.0 if tied else settings.label_smoothing,
            raters=(self._raters.get(one, 0), self._raters.get(other, 0)),
        )

    def _strength(self, strength: float | None) -> float:
        """Share of all strengths that are lower, since every client has its own scale."""
        if strength is None:
            return 0.0
        below = bisect_left(self._strengths, strength) + bisect_right(self._strengths, strength)
        return below / 2 / len(self._strengths)

    def _of_thumb(self, key: str, u: Unpaired) -> TokenizedOpinion:
        rater, smoothing = self._raters[u.rater], self._settings.label_smoothing
        first, second = (0, THRESHOLD) if u.good else (THRESHOLD, 0)
        raters = (rater, 0) if u.good else (0, rater)
        term = Term(first, second, u.weight, smoothing=smoothing, raters=raters)
        return TokenizedOpinion(key, (self._tokens(key, u.prompt, u.response),), (term,))

    def _opinion(
        self, key: str, prompt: Prompt, terms: Sequence[tuple[str, str, Term]]
    ) -> TokenizedOpinion:
        places: dict[Tokens, int] = {}
        placed = []
        for better, worse, term in terms:
            first, second = (
                places.setdefault(self._tokens(key, prompt, text), len(places))
                for text in (better, worse)
            )
            placed.append(replace(term, first=first, second=second))
        return TokenizedOpinion(key, tuple(places), tuple(placed))

    def _differ(self, key: str, prompt: Prompt, one: str, other: str) -> bool:
        return self._tokens(key, prompt, one) != self._tokens(key, prompt, other)

    def _tokens(self, key: str, prompt: Prompt, response: str) -> Tokens:
        if (key, response) not in self._read:
            self._read[key, response] = tuple(self._base.chat.encode_pair(prompt, response)[0])
        return self._read[key, response]


@dataclass(frozen=True, slots=True)
class Collator:
    """Puts opinions into one batch, in which each distinct response is one row.

    Shapes: R distinct responses, P terms of all opinions.
    """

    base: Base
    opinions: Sequence[TokenizedOpinion]
    trunk: Trunk | None = None  # gives what the lowest layers make of the responses

    def __call__(self, rows: Sequence[dict[str, int]]) -> dict[str, Any]:
        """The batch of the opinions that the rows give the numbers of."""
        chosen = [self.opinions[row["opinion"]] for row in rows]
        places: dict[Tokens, int] = {}  # the row of each response
        for opinion in chosen:
            for response in opinion.responses:
                places.setdefault(response, len(places))

        def place(opinion: TokenizedOpinion, number: int) -> int:
            """The row of a response; the threshold is one row more than there are."""
            return len(places) if number == THRESHOLD else places[opinion.responses[number]]

        terms = [(opinion, term) for opinion in chosen for term in opinion.terms]
        ids, mask = self.base.pad(list(places), side="right")  # (R, longest)
        known: dict[str, Any] = {}
        if self.trunk is not None and self.trunk.depth:
            states = self.trunk.states(list(places))  # (R, longest, d)
            known = {"states": states.cpu(), "depth": self.trunk.depth}
        return known | {
            "input_ids": ids.cpu(),
            "attention_mask": mask.cpu(),
            "first": torch.tensor([place(o, t.first) for o, t in terms]),  # (P,), R = threshold
            "second": torch.tensor([place(o, t.second) for o, t in terms]),  # (P,)
            "weights": torch.tensor([t.weight for _, t in terms]) / len(chosen),  # (P,)
            "opinions": torch.tensor(len(chosen)),
            "tied": torch.tensor([t.tied for _, t in terms]),  # (P,)
            "could_tie": torch.tensor([t.could_tie for _, t in terms]),  # (P,)
            "margins": torch.tensor([t.margin for _, t in terms]),  # (P,)
            "smoothing": torch.tensor([t.smoothing for _, t in terms]),  # (P,)
            "raters": torch.tensor([t.raters for _, t in terms]),  # (P, 2)
        }


def _scaled(opinion: TokenizedOpinion, factor: float) -> TokenizedOpinion:
    terms = tuple(replace(term, weight=term.weight * factor) for term in opinion.terms)
    return replace(opinion, terms=terms)
