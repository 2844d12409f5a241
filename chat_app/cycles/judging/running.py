"""One run of a model judge: ask about pairs in both orders, store each answer as it comes.

Invariants: an answer is stored before the next question is asked, so a run that was killed goes on
with the question that it was asking. No pair blocks the others: after a refusal, or no answer, the
endpoint is asked about a pair of ours. If it answers that, a refused question is noted, and not
asked again; one without an answer is counted, and left for the next run. If it does not, the run
ends, and nothing is noted. Pairs are asked about one at a time.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from chat_app.cycles.judging.endpoint import Endpoint
from chat_app.cycles.judging.probes import probes
from chat_app.cycles.judging.verdicts import picked, question
from chat_app.errors import BusyError, InvalidRequestError, RefusedQuestionError, TooLongError
from feedback_store.errors import UnknownRecordError
from feedback_store.raters.judging.judges import Judge, JudgePair
from feedback_store.store import FeedbackStore


@dataclass(slots=True)
class Judging:
    """What came of a run.

    Attributes:
        votes: Votes that were stored, by what they say.
        unclear: Answers that were no verdict.
        too_long: Questions that the model cannot read; they are not asked again either.
        refused: Questions that the endpoint refuses though it answers others; the same holds.
        failed: Pairs about which the endpoint gave no answer; the next run asks again.
        gone: Pairs that were deleted or left out meanwhile.
        requests: Requests to the endpoint.
        stopped: Why it ended early; empty if it did not.
    """

    votes: Counter[str] = field(default_factory=Counter)
    unclear: int = 0
    too_long: int = 0
    refused: int = 0
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

    Raises:
        InvalidRequestError: The endpoint refuses every question.
    """
    done = Judging()
    answered = store.probes_asked(judge.rater_id)

    def ask(pair: JudgePair) -> None:
        for label in pair.unasked:
            if (pair.candidates_id, label) in answered:
                continue
            pick = _pick(endpoint, judge, pair, label, done)
            vote = _keep(store, judge, pair, label, pick)
            done.votes.update([vote] if vote else [])

    for pair in _all(store, judge, which, limit, probing=probing):
        if "/" not in pair.candidates_id:  # probes are nobody's words
            asking(pair.candidates_id)
        try:
            ask(pair)
        except UnknownRecordError:
            done.gone += 1
        except BusyError as exc:
            done.failed += 1
            if not _answers(endpoint, judge):
                done.stopped = str(exc)
                break
        told()
    done.requests = endpoint.requests
    return done


def _pick(
    endpoint: Endpoint, judge: Judge, pair: JudgePair, label: str, done: Judging
) -> str | None:
    """What a judge picks if it sees the reply of this label first; None is counted in `done`."""
    try:
        answer = endpoint.answer(question(pair, judge.principles, first_shown=label))
    except TooLongError:
        done.too_long += 1
        return None
    except RefusedQuestionError:
        if not _answers(endpoint, judge):
            raise
        done.refused += 1
        return None
    pick = picked(answer, first_shown=label)
    done.unclear += pick is None
    return pick


def _answers(endpoint: Endpoint, judge: Judge) -> bool:
    """Whether an endpoint answers a harmless question: then a fault was about another one."""
    try:
        endpoint.answer(question(probes()[0], judge.principles, first_shown="a"))
    except (BusyError, InvalidRequestError):
        return False
    return True


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
