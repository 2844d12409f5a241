"""One run of a model judge: ask about pairs in both orders, store each answer as it comes.

Invariants: an answer is stored before the next question is asked, so a run that was killed goes on
with the question that it was asking. A judge is stored with its first answer, so a wrong address
or model leaves nothing. A pair that is too long, refused, or gets no answer is counted, and left
for the next run, when the model may have more room; since pairs come by lot, it blocks no other.
After a refusal, or no answer, the endpoint is asked about a pair of ours; if it does not answer
that, the run ends. Pairs are asked about one at a time.
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
        pairs: Stored pairs that it was to be asked about; probes are none.
        answers: Answers that were stored, those about probes, too.
        unclear: Of these, those that were no verdict; they are not asked for again.
        too_long: Pairs that the model cannot read, or probes; the next run asks again.
        refused: Those that the endpoint refuses though it answers others; the same holds.
        failed: Those about which the endpoint gave no answer; the same holds.
        gone: Pairs that were deleted or left out meanwhile.
        requests: Requests to the endpoint.
        stopped: Why it ended early; empty if it did not.
    """

    votes: Counter[str] = field(default_factory=Counter)
    pairs: int = 0
    answers: int = 0
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
        judge: Who it is there; stored with its first answer.
        endpoint: Where it is asked.
        which: As `FeedbackStore.pairs_for_judge` takes it.
        limit: How many pairs at most; probes are beside them.
        probing: Whether it is asked about the probes, too, of which each is answered once.
        asking: Called with each pair's id before its texts leave.
        told: Called after each pair.

    Raises:
        InvalidRequestError: The endpoint refuses every question.
    """
    done = Judging()
    answered = store.probes_asked(judge.rater_id)

    def ask(pair: JudgePair) -> None:
        """Ask for the verdicts on a pair that are not there yet, and keep each as it comes."""
        for label in pair.unasked:
            if (pair.candidates_id, label) in answered:
                continue
            answer = endpoint.answer(question(pair, judge.principles, first_shown=label))
            pick = picked(answer, first_shown=label)
            if not done.answers:
                store.add_judge(judge.model, judge.endpoint, judge.principles)
            done.answers += 1
            done.unclear += pick is None
            vote = _keep(store, judge, pair, label, pick)
            done.votes.update([vote] if vote else [])

    for pair in _all(store, judge, which, limit, probing=probing):
        if "/" not in pair.candidates_id:  # probes are nobody's words
            done.pairs += 1
            asking(pair.candidates_id)
        try:
            ask(pair)
        except (UnknownRecordError, BusyError, InvalidRequestError) as exc:
            _count(exc, endpoint, judge, done)
            if done.stopped:
                break
        told()
    done.requests = endpoint.requests
    return done


def _count(exc: Exception, endpoint: Endpoint, judge: Judge, done: Judging) -> None:
    """Count why a pair got no answer; raises the error if it is about every pair."""
    if isinstance(exc, UnknownRecordError):
        done.gone += 1
    elif isinstance(exc, TooLongError):
        done.too_long += 1
    elif isinstance(exc, BusyError):
        done.failed += 1
        done.stopped = "" if _answers(endpoint, judge) else str(exc)
    elif isinstance(exc, RefusedQuestionError) and _answers(endpoint, judge):
        done.refused += 1
    else:
        raise exc


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
