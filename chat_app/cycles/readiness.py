"""When the next cycle begins by itself, and what it waits for: one answer, which all show.

`waits_for` is a pure function; `readiness` gives it the store's facts. The scheduler acts on it;
`status`, the operator page and `/metrics` show the same, but for what only the scheduler knows: how
long it has waited for an idle window, and which votes have started a process that came to nothing.
Where a clock was ahead, a time that has not come yet stops no cycle.

A cycle is due once enough evidence has come since the last one, or after a time that some has. Then
it waits for the shortest time between two cycles, for people who compare adapters, and for an idle
window if one is wanted.

How much is enough depends on how the last cycles ended. Each rejection since the last that passed
doubles it: a test that fails costs the next ones some of their level (`level_of`), so a cycle on
hardly more votes would fail again, and more surely. And it depends on what the last one found out:
where its reward models agree about new questions, new votes tell them little; where they differ,
much.

Source:
    Seung, Opper and Sompolinsky 1992, Query by Committee: what members disagree about is worth
    asking. It moves the number by half at most: in `benchmarks.evidence` the third of the models
    that disagree most gains 1.6 times as much from the same new votes as the third that does least,
    and of fine-tuned models it is a weak sign of error (Gleave and Irving 2022, arXiv:2203.07472).
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime

from chat_app.settings import ScheduleSettings
from feedback_store.errors import Sentence, say
from feedback_store.records import Cycle, Trial
from feedback_store.store import FeedbackStore

DISAGREEMENT = "reward/disagreement"  # a cycle's metric; 1 is what members who guess come to
USUAL = 0.25  # of it: the number stays as it is
SOME = 0.25  # of enough: so much evidence starts a cycle after `every_hours`
# New comparisons that are counted, and as many thumbs. Many on one question are little evidence, so
# far more are counted than are ever needed: else one visitor could hide what all others say.
LOOKED_AT = 100_000
CYCLES = 50  # that are looked at for rejections


@dataclass(frozen=True, slots=True)
class ScheduleFacts:
    """What decides whether a cycle begins.

    Attributes:
        new: Evidence since the last cycle, in comparisons.
        hours: Since the last cycle began, or was cancelled; None if there was none.
        since_made: Hours since the store was made.
        idle_minutes: Since the last message in a chat; None if there was none.
        rejections: Cycles in a row that were rejected.
        failed: Whether the last one failed. What it looked at is no new evidence, but it can go on.
        disagreement: Of the last cycle's reward models about new questions; None if unknown.
        running: Whether a cycle runs.
        trial: A canary that people compare with the served adapter.
    """

    new: float
    hours: float | None = None
    since_made: float = 0.0
    idle_minutes: float | None = None
    rejections: int = 0
    failed: bool = False
    disagreement: float | None = None
    running: bool = False
    trial: Trial | None = None


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether a cycle begins by itself, and what it waits for.

    Attributes:
        new: Evidence since the last cycle, in comparisons.
        needed: How much starts one.
        rejections: Rejections in a row that `needed` counts.
        reason: Why it begins now; None if it does not.
        due: Why it would begin, but for what it still waits for; None if nothing would start it.
        waits_for: What it waits for, in words; empty if it begins now.
        idle: Whether that is an idle window, and nothing else.
        votes: Whether that is votes.
    """

    new: float
    needed: int
    rejections: int
    reason: str | None
    due: str | None
    waits_for: str
    idle: bool = False
    votes: bool = False


def readiness(
    store: FeedbackStore, settings: ScheduleSettings, *, seen: float = 0.0, waited: float = 0.0
) -> Readiness:
    """Whether a cycle begins by itself now; the comparisons must be refreshed.

    Args:
        store: The store.
        settings: When cycles begin.
        seen: New evidence that has started a process already, which ended without a cycle.
        waited: Hours that a cycle which is due has waited for an idle window.
    """
    cycles, now = store.cycles(limit=CYCLES), datetime.now(UTC)
    running, trial = store.running_cycle(), store.open_trial()
    asked = store.last_message_at()
    facts = ScheduleFacts(
        new=max(0.0, new_evidence(store) - seen),
        hours=_hours(_moment(cycles[0]), now) if cycles else None,
        since_made=_hours(store.votes_sufficed_at(), now),
        idle_minutes=None if asked is None else 60 * _hours(asked, now),
        rejections=rejections_in_a_row(cycles),
        failed=bool(cycles) and cycles[0].state == "failed",
        disagreement=next(
            (c.metrics[DISAGREEMENT] for c in cycles if DISAGREEMENT in c.metrics), None
        ),
        running=running is not None,
        trial=trial if trial is not None and trial.kind == "canary" else None,
    )
    return waits_for(settings, facts, waited=waited)


def new_evidence(store: FeedbackStore) -> float:
    """Evidence since the last cycle, in comparisons."""
    return store.new_evidence(at_most=LOOKED_AT).effective


def waits_for(
    settings: ScheduleSettings, facts: ScheduleFacts, *, waited: float = 0.0
) -> Readiness:
    """Whether a cycle begins by itself, by these facts."""
    needed = needed_evidence(settings, facts)
    due = _due(settings, facts, needed)
    idle = _idle_wait(settings, facts, waited) if due else ""
    first = _first_wait(settings, facts, due)
    votes = "" if due or first else _evidence_wait(settings, facts, needed)
    return Readiness(
        new=facts.new,
        needed=needed,
        rejections=facts.rejections,
        reason=None if first or idle else due,
        due=due,
        waits_for=first or idle or votes,
        idle=bool(idle and not first),
        votes=bool(votes),
    )


def needed_evidence(settings: ScheduleSettings, facts: ScheduleFacts) -> int:
    """How much new evidence starts a cycle, after rejections and by what members disagree on."""
    again = min(2.0**facts.rejections, settings.most_backoff)
    differing = USUAL if facts.disagreement is None else facts.disagreement
    told = min(1.5, max(0.5, 1.5 - 0.5 * differing / USUAL))
    return max(1, round(settings.new_comparisons * again * told))


def rejections_in_a_row(cycles: list[Cycle]) -> int:
    """Cycles that were rejected since the last that passed the gate, newest first."""
    ends = [cycle.state for cycle in cycles if cycle.state in ("passed", "promoted", "rejected")]
    return next((n for n, state in enumerate(ends) if state != "rejected"), len(ends))


def _due(settings: ScheduleSettings, facts: ScheduleFacts, needed: int) -> str | None:
    if facts.new >= needed:
        return f"votes worth {facts.new:.0f} of {needed} comparisons"
    hours = facts.since_made if facts.hours is None else facts.hours
    every = settings.every_hours * min(2.0**facts.rejections, settings.most_backoff)
    if every and facts.failed and hours >= every:
        return f"the last cycle failed {hours:.1f} hours ago"
    if every and facts.new >= SOME * needed and hours >= every:
        return f"votes worth {facts.new:.0f} comparisons, {hours:.1f} hours after the last cycle"
    return None


def _first_wait(settings: ScheduleSettings, facts: ScheduleFacts, due: str | None) -> str:
    """What a cycle waits for, however much evidence there is; empty if for nothing."""
    if facts.running:
        return say("the running cycle")
    if facts.trial is not None:
        return say(
            "people's choices between {adapter} and {other}",
            adapter=facts.trial.adapter,
            other=facts.trial.other,
        )
    if due and facts.hours is not None and 0 <= facts.hours < settings.min_hours:
        return say(
            "{minutes} minutes after the last cycle began ({so_far} so far)",
            minutes=60 * settings.min_hours,
            so_far=round(60 * facts.hours),
        )
    return ""


def _idle_wait(settings: ScheduleSettings, facts: ScheduleFacts, waited: float) -> str:
    """For which idle window a cycle waits; empty if for none."""
    idle = facts.idle_minutes
    if idle is None or not 0 <= idle < settings.idle_minutes or waited >= settings.most_idle_hours:
        return ""
    return say(
        "an idle window: {minutes} minutes without a message ({so_far} so far), or {hours} hours",
        minutes=settings.idle_minutes,
        so_far=round(idle, 1),
        hours=settings.most_idle_hours,
    )


def _evidence_wait(settings: ScheduleSettings, facts: ScheduleFacts, needed: int) -> str:
    """How much evidence is missing, in words."""
    new = round(facts.new)
    why = _why_so_many(settings, facts, needed)
    if why is None:
        return say("votes worth {new} of {needed} comparisons", new=new, needed=needed)
    return say(
        "votes worth {new} of {needed} comparisons ({usual} as set; {why})",
        new=new,
        needed=needed,
        usual=settings.new_comparisons,
        why=why,
    )


def _why_so_many(settings: ScheduleSettings, facts: ScheduleFacts, needed: int) -> Sentence | None:
    """Why other than the usual number of comparisons starts a cycle; None if it does."""
    why = []
    if facts.rejections and settings.most_backoff > 1:
        why.append(
            say(
                "more after {n} rejections in a row",
                one="more after {n} rejection in a row",
                n=facts.rejections,
            )
        )
    if facts.disagreement is not None and needed != needed_evidence(settings, _unknown(facts)):
        share = round(100 * facts.disagreement)
        if facts.disagreement > USUAL:
            why.append(
                say(
                    "fewer, as the last reward models differ {share}% as much as guesses would",
                    share=share,
                )
            )
        else:
            why.append(
                say(
                    "more, as the last reward models differ {share}% as much as guesses would",
                    share=share,
                )
            )
    if len(why) == 2 and facts.disagreement is not None and facts.disagreement > USUAL:
        return say("{first}, but {second}", first=why[0], second=why[1])
    if len(why) == 2:
        return say("{first}, and {second}", first=why[0], second=why[1])
    return why[0] if why else None


def _unknown(facts: ScheduleFacts) -> ScheduleFacts:
    return replace(facts, disagreement=None)


def _moment(cycle: Cycle) -> str:
    """From when on the schedule counts: who cancels a cycle wants none at once."""
    ended = cycle.finished_at if cycle.state == "cancelled" else None
    return ended or cycle.started_at


def _hours(since: str, now: datetime) -> float:
    return (now - datetime.fromisoformat(since)).total_seconds() / 3600
