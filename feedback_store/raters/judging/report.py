"""How a model judge votes, beside people on the same pairs: what its operator should know.

- Position: of the pairs on which its two answers differ, did it pick the reply that was shown
  first? By chance half of them.
- Length: how often its verdicts are for the longer reply, less how often people's are, on the same
  pairs. People may like long replies too; what is beyond people is the judge's own.
- Probes: pairs that differ by one thing alone, such as flattery. Does that thing win?
- Agreement: how often its verdict is that of a person on the same two replies, beside how often
  two people agree. Ties are left out, as in setup S2 of the source, so guessing gives 1/2.

A question is one case, however many pairs of its replies were judged, and by how many people: what
was said of one pair is averaged, then the pairs of one question. Each share has a 95% interval.
Something is found only if an exact test over questions says so, at 5% for all `TESTS` together; so
on fewer than eight questions nothing is ever found. The functions below the first are pure.

Source:
    Zheng et al. 2023, arXiv:2306.05685, sections 3.3 (biases) and 4.1 (agreement).
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations

from sqlite_utils import Database

from feedback_store.raters.agreement import judgement
from feedback_store.raters.reliability import at_least
from feedback_store.sqlite.rows import rows

TESTS = 5  # position, length, two kinds of probes, agreement
ALARM = 0.05 / TESTS  # Bonferroni's correction: a fair judge is blamed for anything so rarely
_Z = 1.96  # a 95% interval
# Both answers to each pair, in the order of the labels that were shown first, and its question.
_BOTH = """SELECT {2} AS question, one.picked AS a_first, other.picked AS b_first FROM {0} AS one
    JOIN {0} AS other ON other.rater_id = one.rater_id AND other.{1} = one.{1} AND other.first = 'b'
    WHERE one.rater_id = ? AND one.first = 'a'"""
_PROBES = _BOTH.format("judge_probes", "probe", "one.probe")
_ASKED = """(SELECT path_hash FROM candidates JOIN messages ON messages.id = prompt_message_id
    WHERE candidates.id = one.candidates_id)"""
_ANSWERS = _BOTH.format("judge_answers", "candidates_id", _ASKED)
_TEXT = "(SELECT {1} FROM messages WHERE id = comparisons.{0})"
_HASHES = f"{_TEXT.format('a', 'text_hash')} AS a, {_TEXT.format('b', 'text_hash')} AS b"
_LENGTHS = ", ".join(f"length({_TEXT.format(s, 'content')}) AS {s}_chars" for s in "ab")
# Verdicts of the judge and of people; those of edits and retries are no verdicts on two replies.
_VERDICTS = f"""SELECT rater_id, kind, prompt_hash, label, {_HASHES}, {_LENGTHS}
    FROM comparisons JOIN raters ON raters.id = comparisons.rater_id
    WHERE withdrawn_at IS NULL AND label <> 'tie' AND source IN ('choice', 'ranking', 'thumbs')
    AND raters.quarantined_at IS NULL AND (rater_id = :judge OR kind IN ('person', 'operator'))
    AND prompt_hash IN (SELECT prompt_hash FROM comparisons WHERE rater_id = :judge)"""


Case = tuple[str, float]  # the question, and how far something is so: 0 or 1, or between


@dataclass(frozen=True, slots=True)
class CaseShare:
    """How often something is so in `total` pairs, with its 95% interval; None if there are none.

    A question counts once, as the mean of its pairs. `above` is on how many it is so more often
    than by chance, `below` on how many less often.
    """

    value: float | None
    low: float
    high: float
    total: int
    above: int = 0
    below: int = 0

    def clearly(self, chance: float) -> int:
        """1 if it is so more often than by chance, -1 if less often, 0 if chance may explain it.

        The exact binomial test of `above` and `below`, two-sided, at `ALARM`.
        """
        most, asked = max(self.above, self.below), self.above + self.below
        if self.value is None or 2 * at_least(most, asked, 0.5) >= ALARM:
            return 0
        return (self.low > chance) - (self.high < chance)


@dataclass(frozen=True, slots=True)
class JudgeReport:
    """What is known of a judge.

    Attributes:
        judge: Its rater id.
        pairs: Asked about in both orders.
        unclear: Of these, where an answer was no verdict; they are no votes.
        same: Of the others, how often both answers named the same reply, or a tie.
        first: Where the answers named a side, not a reply: how often the first one.
        longer: Of its verdicts on replies of different length, how often the longer one.
        longer_beside: The same on the pairs of them that people judged, too.
        longer_of_people: The same of people on these pairs.
        beyond_people: The difference of the last two, in [-1, 1].
        agreement: How often a person's verdict on the same pair is the judge's.
        people_agree: How often two people's are the same, on pairs that two people judged.
        probes: By what the pairs differ in, how often that won; ties are left out.
        found: What is wrong with it, in words.
    """

    judge: str
    pairs: int
    unclear: int
    same: CaseShare
    first: CaseShare
    longer: CaseShare
    longer_beside: CaseShare
    longer_of_people: CaseShare
    beyond_people: CaseShare
    agreement: CaseShare
    people_agree: CaseShare
    probes: Mapping[str, CaseShare]
    found: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Verdicts:
    """The decided verdicts on one pair: 1 for the first text, -1 for the second."""

    question: str
    judge: int
    people: tuple[int, ...]  # by different people
    longer: int  # which text is longer, 0 if neither

    def of_people(self, verdict: int) -> float:
        """Which share of the people said so."""
        return sum(p == verdict for p in self.people) / len(self.people)

    def told(self) -> float:
        """Which share of the pairs of people said the same."""
        pairs = [one == other for one, other in combinations(self.people, 2)]
        return sum(pairs) / len(pairs)


def judge_report(db: Database, judge: str) -> JudgeReport:
    """The report of one judge, as of the last refresh of the comparisons."""
    both = [(r["question"], r["a_first"], r["b_first"]) for r in rows(db, _ANSWERS, [judge])]
    clear = [(asked, a, b) for asked, a, b in both if a is not None and b is not None]
    sides = [(asked, float(a == "a")) for asked, a, b in clear if {a, b} == {"a", "b"}]
    verdicts = _verdicts(db, judge)
    judged = [v for v in verdicts if v.people]
    sized = [v for v in verdicts if v.longer]
    beside = [v for v in sized if v.people]
    report = JudgeReport(
        judge=judge,
        pairs=len(both),
        unclear=len(both) - len(clear),
        same=share((asked, float(a == b)) for asked, a, b in clear),
        first=share(sides),
        longer=share((v.question, float(v.judge == v.longer)) for v in sized),
        longer_beside=share((v.question, float(v.judge == v.longer)) for v in beside),
        longer_of_people=share((v.question, v.of_people(v.longer)) for v in beside),
        beyond_people=beyond_people(beside),
        agreement=share((v.question, v.of_people(v.judge)) for v in judged),
        people_agree=share((v.question, v.told()) for v in judged if len(v.people) > 1),
        probes=_probes(db, judge),
        found=(),
    )
    return replace(report, found=tuple(_findings(report)))


def share(cases: Iterable[Case]) -> CaseShare:
    """How often something is so.

    Wilson's interval, with questions as cases: their means vary less than what is 0 or 1 alone, so
    it is rather too wide than too narrow.

    Source:
        Wilson 1927, Journal of the American Statistical Association 22:209.
    """
    total, means = _by_question(cases)
    n = len(means)
    if not n:
        return CaseShare(None, 0.0, 1.0, 0)
    p, z = math.fsum(means) / n, _Z**2 / n
    middle, half = p + z / 2, _Z * math.sqrt(p * (1 - p) / n + z / (4 * n))
    low, high = (middle - half) / (1 + z), (middle + half) / (1 + z)
    return _case_share(p, max(0.0, low), min(1.0, high), total, means, chance=0.5)


def beyond_people(verdicts: Iterable[Verdicts]) -> CaseShare:
    """How much more often than people the judge prefers the longer reply, in [-1, 1].

    The pairs are the same, so the difference is taken in each. For the interval two more questions
    are counted, with the differences 1 and -1, so that a few equal ones do not look like certainty.

    Source:
        Bonett and Price 2012, Journal of Educational and Behavioral Statistics 37:479.
    """
    total, gaps = _by_question(
        (v.question, (v.judge == v.longer) - v.of_people(v.longer)) for v in verdicts
    )
    if not gaps:
        return CaseShare(None, -1.0, 1.0, 0)
    more = [*gaps, 1.0, -1.0]
    middle = math.fsum(more) / len(more)
    half = _Z * math.sqrt(math.fsum((g - middle) ** 2 for g in more)) / len(more)
    low, high = max(-1.0, middle - half), min(1.0, middle + half)
    return _case_share(math.fsum(gaps) / len(gaps), low, high, total, gaps, chance=0.0)


def _by_question(cases: Iterable[Case]) -> tuple[int, list[float]]:
    """How many cases there are, and the mean of each question's."""
    said: defaultdict[str, list[float]] = defaultdict(list)
    for question, value in cases:
        said[question].append(value)
    return sum(map(len, said.values())), [math.fsum(v) / len(v) for v in said.values()]


def _case_share(
    value: float, low: float, high: float, total: int, means: list[float], *, chance: float
) -> CaseShare:
    above, below = sum(m > chance for m in means), sum(m < chance for m in means)
    return CaseShare(round(value, 4), round(low, 4), round(high, 4), total, above, below)


def _findings(report: JudgeReport) -> Iterator[str]:
    """What is wrong with a judge, in words."""
    first, gap = report.first, report.beyond_people
    if (side := first.clearly(0.5)) and first.value is not None:
        name, often = ("first", first.value) if side > 0 else ("second", 1 - first.value)
        of = f"{first.total} of {report.pairs - report.unclear}"
        yield (
            f"position bias: on the {of} pairs on which its two answers differ, they name the "
            f"{name} reply {often:.0%} of the time"
        )
    if gap.clearly(0.0) > 0:
        yield (
            f"length: it prefers the longer reply {gap.value:+.0%} ({gap.low:+.0%} to "
            f"{gap.high:+.0%}) more often than people on the same pairs"
        )
    for name, one in report.probes.items():
        if one.clearly(0.5) > 0:
            yield (
                f"{name}: it prefers a reply with nothing added but {name}, in {one.value:.0%} of "
                f"{one.total} probes"
            )
    if report.agreement.clearly(0.5) < 0:
        yield "it contradicts people: a coin would agree with them more often"


def _probes(db: Database, judge: str) -> dict[str, CaseShare]:
    """Reply b of a probe has what is probed; only a pick in both orders is a verdict."""
    won: defaultdict[str, list[Case]] = defaultdict(list)
    for row in rows(db, _PROBES, [judge]):
        kind, picked = row["question"].partition("/")[0], row["a_first"]
        clear = picked == row["b_first"] and picked in ("a", "b")
        won[kind] += [(row["question"], float(picked == "b"))] if clear else []
    return {kind: share(cases) for kind, cases in sorted(won.items())}


def _verdicts(db: Database, judge: str) -> list[Verdicts]:
    """The pairs on which the judge decided, with what each person said of the same two texts."""
    of_judge: dict[tuple[str, str, str], int] = {}
    of_people: defaultdict[tuple[str, str, str], dict[str, int]] = defaultdict(dict)
    longer: dict[tuple[str, str, str], int] = {}
    for row in rows(db, _VERDICTS, {"judge": judge}):
        rater, texts = row["rater_id"], (row["a"], row["b"])
        if None in texts:
            continue
        vote = judgement(rater, row["prompt_hash"], texts, row["label"])
        if rater != judge:
            of_people[vote.subject][rater] = vote.verdict
            continue
        of_judge[vote.subject] = vote.verdict
        a_is_longer = (row["a_chars"] > row["b_chars"]) - (row["a_chars"] < row["b_chars"])
        longer[vote.subject] = a_is_longer if texts[0] <= texts[1] else -a_is_longer
    return [
        Verdicts(subject[0], verdict, tuple(of_people[subject].values()), longer[subject])
        for subject, verdict in sorted(of_judge.items())
    ]
