"""One run of a model judge: ask about pairs in both orders, store each answer as it comes.

Invariants: an answer is stored before the next question is asked, so a run that was killed goes on
with the question that it was asking; a question that got no answer is counted and left for the
next run. Pairs are asked about one at a time.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from chat_app.cycles.judging.endpoint import Endpoint
from chat_app.cycles.judging.probes import probes
from chat_app.cycles.judging.verdicts import picked, question
from chat_app.errors import BusyError, TooLongError
from feedback_store.errors import UnknownRecordError
from feedback_store.raters.judging.judges import Judge, JudgePair
from feedback_store.store import FeedbackStore

MOST_FAILURES = 3  # pairs in a row without an answer; then nobody is there


@dataclass(slots=True)
class Judging:
    """What came of a run.

    Attributes:
        votes: Votes that were stored, by what they say.
        unclear: Answers that were no verdict.
        too_long: Questions that the model cannot read; they are not asked again either.
        failed: Pairs about which the endpoint gave no answer; the next run asks again.
        gone: Pairs that were deleted or left out meanwhile.
        requests: Requests to the endpoint.
        stopped: Why it ended early; empty if it did not.
    """

    votes: Counter[str] = field(default_factory=Counter)
    unclear: int = 0
    too_long: int = 0
    failed: int = 0
    gone: int = 0
    requests: int = 0
    stopped: str = ""


def run_judge(
    store: FeedbackStore,
    judge: Judge,
    endpoint: Endpoint,
    *,
    which: str = "all",
    limit: int = 100,
    probing: bool = True,
    asking: Callable[[str], None] = lambda candidates_id: None,
    told: Callable[[], None] = lambda: None,
) -> Judging:
    """Ask a judge about pairs and probes that it has not answered yet.

    Args:
        store: Where pairs are and votes go.
        judge: Who it is there.
        endpoint: Where it is asked.
        which: As `FeedbackStore.pairs_for_judge` takes it.
        limit: How many pairs at most.
        probing: Whether it is asked about the probes, too.
        asking: Called with each pair's id before its texts leave.
        told: Called after each pair.
    """
    done, failures = Judging(), 0
    answered = store.probes_asked(judge.rater_id)

    def ask(pair: JudgePair) -> None:
        for label in pair.unasked:
            if (pair.candidates_id, label) in answered:
                continue
            asked = question(pair, judge.principles, first_shown=label)
            try:
                pick = picked(endpoint.answer(asked), first_shown=label)
                done.unclear += pick is None
            except TooLongError:
                pick = None
                done.too_long += 1
            vote = _keep(store, judge, pair, label, pick)
            done.votes.update([vote] if vote else [])

    for pair in _all(store, judge, which, limit, probing=probing):
        if "/" not in pair.candidates_id:  # probes are nobody's words
            asking(pair.candidates_id)
        try:
            ask(pair)
            failures = 0
        except UnknownRecordError:
            done.gone += 1
        except BusyError as exc:
            done.failed, failures = done.failed + 1, failures + 1
            if failures == MOST_FAILURES:
                done.stopped = str(exc)
                break
        told()
    done.requests = endpoint.requests
    return done


def _keep(
    store: FeedbackStore, judge: Judge, pair: JudgePair, label: str, pick: str | None
) -> str | None:
    """Store an answer; returns the vote if there is one now. Probes make none."""
    name = pair.candidates_id
    if "/" in name:
        store.add_judge_probe(judge.rater_id, name, first_shown=label, picked=pick)
        return None
    return store.add_judge_answer(judge.rater_id, name, first_shown=label, picked=pick)


def _all(
    store: FeedbackStore, judge: Judge, which: str, limit: int, *, probing: bool
) -> Iterable[JudgePair]:
    yield from probes() if probing else ()
    yield from store.pairs_for_judge(judge.rater_id, which=which, limit=limit)
