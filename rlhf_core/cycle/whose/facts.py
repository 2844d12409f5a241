"""Whose values: how many raters, how concentrated, of which kinds, and where they disagree.

Invariant: nothing is told of fewer than `fewest` raters. Parts of fewer are told together as
`OTHER`, and if those are too few as well, the smallest other part joins them, or what is left of
the whole would tell of them.

Source:
    Ouyang et al. 2022, arXiv:2203.02155, sections 5.2 and 5.3, which ask whom a model is aligned
    to. The effective number is the inverse of Simpson's index (Simpson 1949, Nature 163:688; Hill
    1973, Ecology 54:427).
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from feedback_store.raters.whose import VoteFact
from rlhf_core.gate.intervals import wilson_interval

FEWEST = 5  # raters of whom something is told: of three, each could tell who the others are
TOPS = (1, 5, 10)
QUESTIONS = 10
OTHER = "other"
Z = 1.96  # of an interval of 95%


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the raters: how many they are, and their share of all weight."""

    name: str
    raters: int
    share: float


@dataclass(frozen=True, slots=True)
class AgreementRate:
    """How often two raters say the same who judged the same two replies.

    To call two replies equal, and one of them better, is half the same. If nobody looked at the
    replies, about half would agree.

    Attributes:
        name: Of whom or of what.
        raters: Who judged replies that another one judged, too.
        pairs: Pairs of replies that two raters or more judged.
        value: The rate; each pair of replies counts the same.
        low: Its lower bound.
        high: Its upper bound.
    """

    name: str
    raters: int
    pairs: int
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Portrait:
    """Whose votes they are; without raters if those are too few, and then without all the rest.

    Attributes:
        raters: Whose votes count.
        votes: How many.
        effective: How many raters of equal weight would be as concentrated.
        tops: The share of weight of the most active rater, of the five, of the ten.
        groups: Raters by kind.
        scripts: By the script of the questions; one rater can be in several.
        agreement: Of all.
        by_source: By kind of vote.
        by_script: By the script of the questions.
        between: Among raters of one kind, or of two.
        questions: Those on which raters agree least.
    """

    raters: int | None = None
    votes: int = 0
    effective: float | None = None
    tops: tuple[Part, ...] = ()
    groups: tuple[Part, ...] = ()
    scripts: tuple[Part, ...] = ()
    agreement: AgreementRate | None = None
    by_source: tuple[AgreementRate, ...] = ()
    by_script: tuple[AgreementRate, ...] = ()
    between: tuple[AgreementRate, ...] = ()
    questions: tuple[AgreementRate, ...] = ()


def portrait(
    facts: Iterable[VoteFact], *, fewest: int = FEWEST, with_questions: bool = False
) -> Portrait:
    """Whose votes these are.

    Args:
        facts: The votes that count.
        fewest: Raters of whom something is told.
        with_questions: Whether to tell the questions on which raters agree least, with their text.
    """
    votes = [fact for fact in facts if fact.weight > 0]
    weights = _weights(votes)
    if len(weights) < fewest:
        return Portrait()
    whole = sum(weights.values())
    shares = sorted((weight / whole for weight in weights.values()), reverse=True)
    by_source, by_script, by_group = (
        merged(votes, key, fewest) for key in (_source_of, _script_of, _group_of)
    )
    return Portrait(
        raters=len(shares),
        votes=len(votes),
        effective=round(1 / sum(share**2 for share in shares), 1),
        tops=tuple(Part(str(n), n, round(sum(shares[:n]), 4)) for n in TOPS if n < len(shares)),
        groups=_parts(by_group, whole),
        scripts=_parts(by_script, whole),
        agreement=agreement_rate("", votes, fewest),
        by_source=_rates(by_source, fewest),
        by_script=_rates(by_script, fewest),
        between=_between(by_group, fewest),
        questions=_questions(votes, fewest) if with_questions else (),
    )


def merged(
    votes: Iterable[VoteFact], name_of: Callable[[VoteFact], str], fewest: int
) -> dict[str, list[VoteFact]]:
    """Votes by name, the largest part first; parts of fewer raters are together, as `OTHER`."""
    found: defaultdict[str, list[VoteFact]] = defaultdict(list)
    for vote in votes:
        found[name_of(vote)].append(vote)
    largest_first = sorted(found, key=lambda name: (-_count(found[name]), name))
    kept = {name: found[name] for name in largest_first if _count(found[name]) >= fewest}
    rest = [vote for name in largest_first if name not in kept for vote in found[name]]
    while rest and _count(rest) < fewest and kept:
        rest += kept.popitem()[1]
    return kept | ({OTHER: rest} if rest and _count(rest) >= fewest else {})


def agreement_rate(name: str, votes: Iterable[VoteFact], fewest: int) -> AgreementRate | None:
    """How far raters agree, each question's pairs being a cluster; None of too few raters."""
    values, questions, raters = list[float](), list[str](), set[str]()
    for said in _judged(votes).values():
        verdicts = Counter(fact.verdict for fact in said.values())
        n = len(said)
        same = sum(_same(verdict, verdicts) * count for verdict, count in verdicts.items())
        values.append((same - n) / (n * (n - 1)))  # nobody agrees with themselves
        questions.append(next(iter(said.values())).question)
        raters |= said.keys()
    return _rate(name, values, questions, raters=len(raters), pairs=len(values), fewest=fewest)


def _same(verdict: int, others: Mapping[int, int]) -> float:
    """With how many of the others a verdict agrees; half with a tie, and as a tie half."""
    return sum(count * (1 - abs(verdict - other) / 2) for other, count in others.items())


def _judged(votes: Iterable[VoteFact]) -> dict[str, dict[str, VoteFact]]:
    """By two texts and rater, the votes on texts that two raters or more have judged."""
    found: defaultdict[str, dict[str, VoteFact]] = defaultdict(dict)
    for vote in votes:
        if vote.subject is not None:
            found[vote.subject][vote.rater] = vote
    return {subject: said for subject, said in found.items() if len(said) > 1}


def _rate(
    name: str,
    values: Sequence[float],
    clusters: Sequence[str],
    *,
    raters: int,
    pairs: int,
    fewest: int,
) -> AgreementRate | None:
    if not values or raters < fewest:
        return None
    low, value, high = wilson_interval(values, clusters, [1.0] * len(values), z=Z)
    return AgreementRate(name, raters, pairs, round(value, 4), round(low, 4), round(high, 4))


def _rates(parts: Mapping[str, Sequence[VoteFact]], fewest: int) -> tuple[AgreementRate, ...]:
    found = (agreement_rate(name, votes, fewest) for name, votes in parts.items())
    return tuple(rate for rate in found if rate is not None)


def _between(parts: Mapping[str, Sequence[VoteFact]], fewest: int) -> tuple[AgreementRate, ...]:
    """Among raters of each kind, and between those of two: `person/simulated`."""
    names = list(parts)
    found = [agreement_rate(f"{name}/{name}", parts[name], fewest) for name in names]
    for number, one in enumerate(names):
        found += [_across(one, other, parts, fewest) for other in names[number + 1 :]]
    return tuple(rate for rate in found if rate is not None) if len(names) > 1 else ()


def _across(
    one: str, other: str, parts: Mapping[str, Sequence[VoteFact]], fewest: int
) -> AgreementRate | None:
    """How far raters of one kind agree with those of another."""
    values, questions = list[float](), list[str]()
    raters: tuple[set[str], set[str]] = (set(), set())
    mine = {vote.rater for vote in parts[one]}
    for said in _judged([*parts[one], *parts[other]]).values():
        sides = (
            [vote for rater, vote in said.items() if rater in mine],
            [vote for rater, vote in said.items() if rater not in mine],
        )
        if not all(sides):
            continue
        verdicts = Counter(vote.verdict for vote in sides[1])
        same = sum(_same(vote.verdict, verdicts) for vote in sides[0])
        values.append(same / (len(sides[0]) * len(sides[1])))
        questions.append(sides[0][0].question)
        for names, side in zip(raters, sides, strict=True):
            names |= {vote.rater for vote in side}
    if min(map(len, raters)) < fewest:
        return None
    number = sum(map(len, raters))
    name = f"{one}/{other}"
    return _rate(name, values, questions, raters=number, pairs=len(values), fewest=fewest)


def _questions(votes: Iterable[VoteFact], fewest: int) -> tuple[AgreementRate, ...]:
    """The questions whose raters surely agree least; of one question, raters are the clusters."""
    by_question: defaultdict[str, list[tuple[VoteFact, float]]] = defaultdict(list)
    pairs: Counter[str] = Counter()
    for said in _judged(votes).values():
        verdicts = Counter(fact.verdict for fact in said.values())
        for fact in said.values():
            agrees = (_same(fact.verdict, verdicts) - 1) / (len(said) - 1)
            by_question[fact.question].append((fact, agrees))
        pairs[fact.question] += 1
    found = [
        _rate(
            said[0][0].text,
            [agrees for _, agrees in said],
            [fact.rater for fact, _ in said],
            raters=_count(fact for fact, _ in said),
            pairs=pairs[question],
            fewest=fewest,
        )
        for question, said in by_question.items()
    ]
    known = [rate for rate in found if rate is not None and rate.value < 1]
    return tuple(sorted(known, key=lambda rate: (rate.high, rate.value, rate.name))[:QUESTIONS])


def _parts(parts: Mapping[str, Sequence[VoteFact]], whole: float) -> tuple[Part, ...]:
    return tuple(
        Part(name, _count(votes), round(sum(vote.weight for vote in votes) / whole, 4))
        for name, votes in parts.items()
    )


def _weights(votes: Iterable[VoteFact]) -> dict[str, float]:
    found: defaultdict[str, float] = defaultdict(float)
    for vote in votes:
        found[vote.rater] += vote.weight
    return found


def _count(votes: Iterable[VoteFact]) -> int:
    return len({vote.rater for vote in votes})


def _source_of(vote: VoteFact) -> str:
    return vote.source


def _script_of(vote: VoteFact) -> str:
    return vote.script


def _group_of(vote: VoteFact) -> str:
    return vote.group
