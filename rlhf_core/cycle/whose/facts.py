"""Whose values: how many raters, how concentrated, of which kinds, and where they disagree.

Invariant: nothing is told of fewer than `fewest` people, whoever of the others could be found by
subtraction; the one exception is the share of the most active rater, by which concentration is
known. Parts of fewer people are told together as `OTHER`, and if those are too few as well, the
smallest other part joins them, or what is left of the whole would tell of them. Programs
(`records.PROGRAMS`) are no people: their kinds are told by name, even if they are one, so that
nobody takes what they say for people's.

Source:
    Ouyang et al. 2022, arXiv:2203.02155, sections 5.2 and 5.3, which ask whom a model is aligned
    to. The effective number is the inverse of Simpson's index (Simpson 1949, Nature 163:688; Hill
    1973, Ecology 54:427).
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from feedback_store.raters.whose import VoteFact
from feedback_store.records import PROGRAMS
from rlhf_core.gate.intervals import wilson_interval

FEWEST = 5  # people of whom something is told: of three, each could tell who the others are
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
        value: The rate. Each pair of replies counts the same, but the pairs of a ranking that
            others judged, too, share what a pair counts.
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
    """Whose votes they are; of too few people only how many programs there are beside them.

    Attributes:
        raters: Whose votes count, without programs; None if they are too few, though not 0.
        programs: Programs whose votes count.
        votes: How many; a ranking is one.
        effective: How many raters of equal weight would be as concentrated, programs among them.
        tops: The share of weight of the most active rater, of the five, of the ten, programs among
            them; the latter two only where neither they nor those left tell of too few people.
        groups: Raters by kind.
        scripts: By the script of the questions; one rater can be in several.
        agreement: Of all.
        by_source: By kind of vote.
        by_script: By the script of the questions.
        between: Among raters of one kind, or of two.
        questions: Those on which raters agree least.
    """

    raters: int | None = None
    programs: int = 0
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
        fewest: People of whom something is told.
        with_questions: Whether to tell the questions on which raters agree least, with their text.
    """
    votes = [fact for fact in facts if fact.weight > 0]
    people = [vote for vote in votes if vote.group not in PROGRAMS]
    raters, programs = _people(votes), _count(votes) - _people(votes)
    if not votes or 0 < raters < fewest:
        return Portrait(programs=programs)
    by_source, by_script = (merged(votes, key, fewest) for key in (_source_of, _script_of))
    by_group = merged(people, _group_of, fewest) | {
        kind: said for kind in PROGRAMS if (said := [v for v in votes if v.group == kind])
    }
    whole = sum(vote.weight for vote in votes)
    shares = {rater: weight / whole for rater, weight in _weights(votes).items()}
    return Portrait(
        raters=raters,
        programs=programs,
        votes=len({vote.opinion for vote in votes}),
        effective=round(1 / sum(share**2 for share in shares.values()), 1),
        tops=_tops(shares, {vote.rater for vote in people}, fewest),
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
    """Votes by name, the largest part first; parts of fewer people are together, as `OTHER`.

    If nobody of the whole is a person, every part is told.
    """
    found: defaultdict[str, list[VoteFact]] = defaultdict(list)
    for vote in votes:
        found[name_of(vote)].append(vote)
    needed = fewest if any(map(_people, found.values())) else 0
    largest_first = sorted(found, key=lambda name: (-_count(found[name]), name))
    kept = {name: found[name] for name in largest_first if _people(found[name]) >= needed}
    rest = [vote for name in largest_first if name not in kept for vote in found[name]]
    while rest and _people(rest) < needed and kept:
        rest += kept.popitem()[1]
    return kept | ({OTHER: rest} if rest and _people(rest) >= needed else {})


def _tops(shares: Mapping[str, float], people: Collection[str], fewest: int) -> tuple[Part, ...]:
    """See `Portrait.tops`."""
    by_share = sorted(shares, key=lambda rater: -shares[rater])

    def told(n: int) -> bool:
        inside = sum(rater in people for rater in by_share[:n])
        return n == 1 or not (0 < inside < fewest or 0 < len(people) - inside < fewest)

    return tuple(
        Part(str(n), n, round(sum(shares[rater] for rater in by_share[:n]), 4))
        for n in TOPS
        if n < len(by_share) and told(n)
    )


def agreement_rate(name: str, votes: Iterable[VoteFact], fewest: int) -> AgreementRate | None:
    """How far raters agree, each question's pairs being a cluster; None of too few people."""
    values, judged = list[float](), [[*said.values()] for said in _judged(votes).values()]
    for said in judged:
        verdicts = Counter(fact.verdict for fact in said)
        n = len(said)
        same = sum(_same(verdict, verdicts) * count for verdict, count in verdicts.items())
        values.append((same - n) / (n * (n - 1)))  # nobody agrees with themselves
    return _rate_of_pairs(name, values, judged, fewest)


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


def _rate_of_pairs(
    name: str, values: Sequence[float], judged: Sequence[Sequence[VoteFact]], fewest: int
) -> AgreementRate | None:
    """The rate of pairs, each with its value and those who judged it."""
    met = [vote for said in judged for vote in said]
    sizes = Counter(vote.opinion for vote in met)  # a ranking of nine is one opinion of 36 pairs
    weights = [sum(1 / sizes[vote.opinion] for vote in said) / len(said) for said in judged]
    questions = [said[0].question for said in judged]
    return _rate(name, values, questions, weights, met=met, pairs=len(judged), fewest=fewest)


def _rate(
    name: str,
    values: Sequence[float],
    clusters: Sequence[str],
    weights: Sequence[float],
    *,
    met: Sequence[VoteFact],
    pairs: int,
    fewest: int,
) -> AgreementRate | None:
    if not values or 0 < _people(met) < fewest:
        return None
    low, value, high = wilson_interval(values, clusters, weights, z=Z)
    return AgreementRate(name, _count(met), pairs, round(value, 4), round(low, 4), round(high, 4))


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
    """How far raters of one kind agree with those of another; None of too few people of either."""
    values, judged = list[float](), list[list[VoteFact]]()
    met: tuple[list[VoteFact], list[VoteFact]] = ([], [])
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
        judged.append([*sides[0], *sides[1]])
        for those, side in zip(met, sides, strict=True):
            those += side
    if any(0 < _people(those) < fewest for those in met):
        return None
    return _rate_of_pairs(f"{one}/{other}", values, judged, fewest)


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
            [1.0] * len(said),
            met=[fact for fact, _ in said],
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


def _people(votes: Iterable[VoteFact]) -> int:
    """How many raters are no programs."""
    return _count(vote for vote in votes if vote.group not in PROGRAMS)


def _source_of(vote: VoteFact) -> str:
    return vote.source


def _script_of(vote: VoteFact) -> str:
    return vote.script


def _group_of(vote: VoteFact) -> str:
    return vote.group
