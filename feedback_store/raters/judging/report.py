"""How a model judge votes, beside people on the same pairs: what its operator should know.

- Position: of the pairs on which its two answers differ, did it pick the reply that was shown
  first? By chance half of them.
- Length: how often its verdicts are for the longer reply, less how often people's are, on the same
  pairs. People may like long replies too; what is beyond people is the judge's own.
- Probes: pairs that differ by one thing alone, such as flattery. Does that thing win?
- Agreement: how often its verdict is that of a person on the same two replies, beside how often
  two people agree. Ties are left out, as in setup S2 of the source, so guessing gives 1/2.

Each share has a 95% interval, and something is found if the interval excludes chance. The functions
below the first are pure.

Source:
    Zheng et al. 2023, arXiv:2306.05685, sections 3.3 (biases) and 4.1 (agreement).
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from sqlite_utils import Database

from feedback_store.raters.agreement import judgement
from feedback_store.sqlite.rows import rows

_Z = 1.96  # a 95% interval
# Both answers to each pair, in the order of the labels that were shown first.
_BOTH = """SELECT one.picked AS a_first, other.picked AS b_first FROM {0} AS one
    JOIN {0} AS other ON other.rater_id = one.rater_id AND other.{1} = one.{1} AND other.first = 'b'
    WHERE one.rater_id = ? AND one.first = 'a'"""
_PROBES = _BOTH.format("judge_probes", "probe").replace("SELECT ", "SELECT one.probe, ")
_TEXT = "(SELECT {1} FROM messages WHERE id = comparisons.{0})"
_HASHES = f"{_TEXT.format('a', 'text_hash')} AS a, {_TEXT.format('b', 'text_hash')} AS b"
_LENGTHS = ", ".join(f"length({_TEXT.format(s, 'content')}) AS {s}_chars" for s in "ab")
# Verdicts of the judge and of people; those of edits and retries are no verdicts on two replies.
_VERDICTS = f"""SELECT rater_id, kind, prompt_hash, label, {_HASHES}, {_LENGTHS}
    FROM comparisons JOIN raters ON raters.id = comparisons.rater_id
    WHERE withdrawn_at IS NULL AND label <> 'tie' AND source IN ('choice', 'ranking', 'thumbs')
    AND raters.quarantined_at IS NULL AND (rater_id = :judge OR kind IN ('person', 'operator'))
    AND prompt_hash IN (SELECT prompt_hash FROM comparisons WHERE rater_id = :judge)"""


@dataclass(frozen=True, slots=True)
class CaseShare:
    """A share of `total` cases with its 95% interval by Wilson; None if there are no cases."""

    value: float | None
    low: float
    high: float
    total: int


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
        longer_of_people: The same of people on the same pairs.
        beyond_people: The difference, and its interval; None without people's verdicts.
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
    longer_of_people: CaseShare
    beyond_people: tuple[float, float, float] | None
    agreement: CaseShare
    people_agree: CaseShare
    probes: Mapping[str, CaseShare]
    found: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Verdicts:
    """The decided verdicts on one pair: 1 for the first text, -1 for the second."""

    judge: int
    people: tuple[int, ...]  # by different people
    longer: int  # which text is longer, 0 if neither


def judge_report(db: Database, judge: str) -> JudgeReport:
    """The report of one judge, as of the last refresh of the comparisons."""
    both = [(r["a_first"], r["b_first"]) for r in _both(db, "judge_answers", judge)]
    clear = [pair for pair in both if None not in pair]
    sides = [a == "a" for a, b in clear if {a, b} == {"a", "b"}]
    verdicts = _verdicts(db, judge)
    sized = [v for v in verdicts if v.longer]
    beside = [v for v in sized if v.people]
    agreeing = [p == v.judge for v in verdicts for p in v.people]
    told = [one == other for v in verdicts for one, other in combinations(v.people, 2)]
    report = JudgeReport(
        judge=judge,
        pairs=len(both),
        unclear=len(both) - len(clear),
        same=share([a == b for a, b in clear]),
        first=share(sides),
        longer=share([v.judge == v.longer for v in sized]),
        longer_of_people=share([p == v.longer for v in beside for p in v.people]),
        beyond_people=beyond_people(beside),
        agreement=share(agreeing),
        people_agree=share(told),
        probes=_probes(db, judge),
        found=(),
    )
    return _with_findings(report)


def share(cases: Iterable[bool]) -> CaseShare:
    """How often something is the case.

    Source:
        Wilson 1927, Journal of the American Statistical Association 22:209.
    """
    counts = Counter(cases)
    n = counts.total()
    if not n:
        return CaseShare(None, 0.0, 1.0, 0)
    p, z = counts[True] / n, _Z**2 / n
    middle, half = p + z / 2, _Z * math.sqrt(p * (1 - p) / n + z / (4 * n))
    low, high = (middle - half) / (1 + z), (middle + half) / (1 + z)
    return CaseShare(round(p, 4), round(max(0.0, low), 4), round(min(1.0, high), 4), n)


def beyond_people(verdicts: Sequence[Verdicts]) -> tuple[float, float, float] | None:
    """How much more often than people the judge prefers the longer reply, low and high.

    The pairs are the same, so the difference is taken in each; None for fewer than two pairs.
    """
    if len(verdicts) < 2:
        return None
    gaps = [
        (v.judge == v.longer) - sum(p == v.longer for p in v.people) / len(v.people)
        for v in verdicts
    ]
    mean = math.fsum(gaps) / len(gaps)
    error = math.sqrt(math.fsum((g - mean) ** 2 for g in gaps) / (len(gaps) - 1) / len(gaps))
    return round(mean, 4), round(mean - _Z * error, 4), round(mean + _Z * error, 4)


def _with_findings(report: JudgeReport) -> JudgeReport:
    found = []
    if report.first.low > 0.5 or report.first.high < 0.5:
        side = "first" if report.first.low > 0.5 else "second"
        found.append(
            f"position bias: its answers name the {side} reply, whichever that is, in "
            f"{_sided(report, side)} of {report.pairs - report.unclear} pairs"
        )
    if report.beyond_people is not None and report.beyond_people[1] > 0:
        gap, low, high = report.beyond_people
        found.append(
            f"length: it prefers the longer reply {gap:+.0%} ({low:+.0%} to {high:+.0%}) more "
            "often than people on the same pairs"
        )
    found += [
        f"{name}: it prefers a reply with nothing added but {name}, in {one.value:.0%} of "
        f"{one.total} probes"
        for name, one in report.probes.items()
        if one.value is not None and one.low > 0.5
    ]
    if report.agreement.total and report.agreement.high < 0.5:
        found.append("it contradicts people: a coin would agree with them more often")
    fields = {name: getattr(report, name) for name in JudgeReport.__dataclass_fields__}
    return JudgeReport(**fields | {"found": tuple(found)})


def _sided(report: JudgeReport, side: str) -> int:
    value = report.first.value or 0.0
    return round(report.first.total * (value if side == "first" else 1 - value))


def _both(db: Database, table: str, judge: str) -> list[dict[str, str | None]]:
    return rows(db, _BOTH.format(table, "candidates_id"), [judge])


def _probes(db: Database, judge: str) -> dict[str, CaseShare]:
    """Reply b of a probe has what is probed; only a pick in both orders is a verdict."""
    won: defaultdict[str, list[bool]] = defaultdict(list)
    for row in rows(db, _PROBES, [judge]):
        kind = row["probe"].partition("/")[0]
        won[kind] += [row["a_first"] == "b"] if row["a_first"] == row["b_first"] != "tie" else []
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
        Verdicts(verdict, tuple(of_people[subject].values()), longer[subject])
        for subject, verdict in sorted(of_judge.items())
    ]
