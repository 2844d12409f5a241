"""What a receipt says of a vote: cast, used, and after its version was rolled back or promoted."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from chat_app.cycles.round_ahead import RoundWatch
from chat_app.handlers.my_votes import KINDS, MyVotes
from chat_app.handlers.sayings import _LEFT_OUT, _NO_VERDICT, _OWN_WAIT, STATES
from chat_app.handlers.votes import Votes
from chat_app.service.chat import ChatService
from feedback_store.comparisons import receipts as stored
from feedback_store.records import (
    CHOICES,
    SPLITS,
    THAN_BEFORE,
    TRIAL_KINDS,
    TRIAL_OUTCOMES,
    CandidateReply,
    Message,
)
from feedback_store.splits import is_held_out_question
from feedback_store.store import FeedbackStore
from tests.chat_app.fakes import FakeEngine, fake_service
from tests.chat_app.reading import WORDS, read

ANN = "ann"
QUESTIONS = {
    held_out: next(q for q in map(str, itertools.count()) if is_held_out_question(q) is held_out)
    for held_out in (False, True)
}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ChatService]:
    with FeedbackStore(tmp_path / "feedback.db") as store:
        yield fake_service(store, FakeEngine(), tmp_path)


def shown(store: FeedbackStore, split: str) -> tuple[str, list[Message]]:
    """Two replies to a question, whose votes will be in this split."""
    store.add_rater(ANN, consent="v1")
    if split == "held_out_raters":
        with store._file.write() as db:
            db.execute("UPDATE raters SET held_out = 1")
    asked = store.add_message(
        store.add_conversation(ANN).id, "user", QUESTIONS[split == "held_out"]
    )
    candidates, _ = store.add_candidates(
        asked.id, [CandidateReply("x"), CandidateReply("y")], rater_id=ANN
    )
    return candidates, store.candidates(candidates)


def choose(service: ChatService, split: str, choice: str = "a") -> None:
    candidates, _ = shown(service.store, split)
    service.store.add_choice(candidates, ANN, choice, idempotency_key="choice")


def run_cycle(
    store: FeedbackStore, state: str, adapter: str | None = None, parent: str = "policy-000000"
) -> None:
    store.refresh_comparisons()
    cycle = store.start_cycle({}, pid=os.getpid())
    store.use_comparisons(cycle.id, [item.id for item in store.comparisons()])
    if adapter is not None:
        store.register_adapter(adapter, kind="policy", parent=parent, cycle_id=cycle.id)
    if state != "running":
        promotion = "offline" if state == "promoted" else None
        store.finish_cycle(cycle.id, state=state, adapter=adapter, promotion=promotion)


def became(service: ChatService) -> str:
    service.store.refresh_comparisons()
    [receipt] = MyVotes(service).found(ANN).votes
    return read(receipt.became)


@pytest.mark.parametrize(
    ("split", "says"),
    [
        ("train", "Taught version 2, which answers now."),
        (
            "held_out",
            "Tested version 2, which answers now. It did not learn from this: the question is "
            "kept for tests.",
        ),
        (
            "held_out_raters",
            "Tested the reward model of version 2, which answers now. It did not learn from "
            "this: your votes are kept for tests.",
        ),
    ],
)
def test_a_used_vote_trained_or_tested_the_adapter_that_answers(
    service: ChatService, split: str, says: str
) -> None:
    choose(service, split)
    run_cycle(service.store, "promoted", "policy-000001")
    assert became(service) == says


def test_a_vote_that_a_cycle_did_not_draw_is_not_said_to_be_used(service: ChatService) -> None:
    choose(service, "train")
    service.store.refresh_comparisons()
    cycle = service.store.start_cycle({}, pid=os.getpid())
    service.store.use_comparisons(cycle.id, [])
    service.store.finish_cycle(cycle.id, state="rejected")
    assert became(service).startswith("Not among those that the last round drew; a later one may")


def test_a_vote_that_the_operator_leaves_out_is_told_as_that_and_what_learnt_from_it_before(
    service: ChatService,
) -> None:
    choose(service, "train")
    service.store.refresh_comparisons()
    [vote] = [event["id"] for event in service.store.feedback_of(ANN)]
    service.store.leave_out("vote", [vote], by="operator", reason="rude")
    assert became(service) == "Counts for nothing now: not used for training."
    service.store.take_in("vote", [vote], by="operator")
    run_cycle(service.store, "promoted", "policy-000001")
    service.store.leave_out("vote", [vote], by="operator", reason="rude")
    assert became(service) == (
        "Taught version 2, which answers now. Counts for nothing now: not used for training."
    )


@pytest.mark.parametrize("split", SPLITS)
def test_a_roll_back_and_a_promotion_back_change_the_receipt(
    service: ChatService, split: str
) -> None:
    choose(service, split)
    run_cycle(service.store, "promoted", "policy-000001")
    now = became(service)
    service.store.serve("policy-000000", by="operator")
    rolled_back = became(service)
    assert "version 2, which answered for a while and was rolled back" in rolled_back
    assert "answers now" not in rolled_back
    service.store.serve("policy-000001", by="operator")
    assert became(service) == now


def test_what_trained_an_earlier_adapter_trained_the_one_that_was_made_from_it(
    service: ChatService,
) -> None:
    choose(service, "train")
    run_cycle(service.store, "promoted", "policy-000001")
    service.store.register_adapter(
        "policy-000002", kind="policy", parent="policy-000001", state="published"
    )
    service.store.serve("policy-000002", by="operator")
    says = "Taught version 2, from which the version that answers now was trained."
    assert became(service) == says


def test_a_later_cycle_that_was_rejected_does_not_hide_the_adapter_that_answers(
    service: ChatService,
) -> None:
    choose(service, "train")
    run_cycle(service.store, "promoted", "policy-000001")
    run_cycle(service.store, "rejected", "policy-000002", parent="policy-000001")
    assert became(service) == "Taught version 2, which answers now."


@pytest.mark.parametrize(
    ("split", "state", "adapter", "says"),
    [
        ("train", "running", None, "Used by round 1, which is running."),
        ("held_out_raters", "running", None, "Used by round 1, which is running."),
        ("train", "refused", None, "Waits for the next round of training."),
        ("train", "failed", None, "Waits for the next round of training."),
        ("held_out", "failed", None, "Kept to test new versions; never trained on."),
        ("held_out_raters", "refused", None, "once there are enough such votes; never trained"),
        ("train", "rejected", None, "Taught the reward model of round 1, which made no new"),
        ("held_out_raters", "rejected", None, "Tested the reward model of round 1, which made no"),
        (
            "train",
            "rejected",
            "policy-000001",
            "Taught the version of round 1, which was rejected and has",
        ),
        (
            "held_out",
            "rejected",
            "policy-000001",
            "Tested the version of round 1, which was rejected and",
        ),
    ],
)
def test_a_cycle_that_did_not_end_well_is_not_said_to_have_made_what_answers(
    service: ChatService, split: str, state: str, adapter: str | None, says: str
) -> None:
    choose(service, split)
    run_cycle(service.store, state, adapter)
    assert says in became(service)


def test_a_vote_that_taught_and_counts_no_more_says_both(service: ChatService) -> None:
    choose(service, "train")
    run_cycle(service.store, "promoted", "policy-000001")
    service.store.quarantine(ANN, reason="a test", by="operator")
    said = became(service)
    assert said.startswith("Taught version 2, which answers now. Counts for nothing now: held")


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("kind", ["thumb", "both_bad", "tie", "rewritten", "answer"])
def test_what_no_cycle_uses_is_not_said_to_wait_for_training(
    service: ChatService, kind: str, split: str
) -> None:
    candidates, replies = shown(service.store, split)
    if kind == "thumb":
        service.store.add_thumb(replies[0].id, ANN, 1, idempotency_key="k")
    elif kind in ("both_bad", "tie"):
        service.store.add_choice(candidates, ANN, kind, idempotency_key="k")
    else:
        about = replies[0].id if kind == "rewritten" else None
        question = [{"role": "user", "content": QUESTIONS[split == "held_out"]}]
        prompt = None if about else question
        service.store.add_demonstration(
            ANN, "z", message_id=about, prompt=prompt, idempotency_key="k"
        )
    said = became(service)
    trains = any(words in said for words in ("round of training", "each round", "next", "imitate"))
    assert trains == (split == "train")
    nothing = {("answer", "held_out"), ("both_bad", "held_out")} | {
        (name, "held_out_raters") for name in ("both_bad", "tie", "rewritten", "answer")
    }
    assert said.startswith("Used for nothing") == ((kind, split) in nothing)


def test_every_reason_of_the_store_has_its_words() -> None:
    constants = [value for name, value in vars(stored).items() if name.isupper()]
    reasons = {text for text in constants if isinstance(text, str) and "SELECT" not in text}
    assert set(_LEFT_OUT) == reasons
    for code in _LEFT_OUT.values():
        assert WORDS[f"votes.left_out.{code}"] and WORDS[f"receipt.nothing.{code}"]


# Choices between two versions


def in_trial(service: ChatService) -> tuple[int, str]:
    """A trial, and two replies of its adapters to a question: "a" is by the new one."""
    store = service.store
    store.register_adapter(
        "policy-000001", kind="policy", parent="policy-000000", state="published"
    )
    trial = store.start_trial("canary", "policy-000001", "policy-000000", by="operator")
    store.add_rater(ANN, consent="v1")
    asked = store.add_message(store.add_conversation(ANN).id, "user", QUESTIONS[False])
    replies = [
        CandidateReply("x", adapter="policy-000001"),
        CandidateReply("y", adapter="policy-000000"),
    ]
    shown, _ = store.add_candidates(asked.id, replies, rater_id=ANN, trial_id=trial.id)
    return trial.id, shown


@pytest.mark.parametrize("then", ["a", "b", "tie", None])
def test_of_choices_made_again_after_the_authors_were_told_a_trial_counts_the_first(
    service: ChatService, then: str | None
) -> None:
    trial, shown = in_trial(service)
    mine, votes = MyVotes(service), Votes(service)
    votes.consent(ANN, given=True)
    assert votes.choose(ANN, shown, "b").a == "policy-000001"  # who wrote which is told
    conversation = service.store.conversations(ANN)[0].id
    [first] = mine.in_place(ANN, conversation)
    assert first.decides
    assert became(service).startswith("Helps to decide between a new version and version 1. ")
    mine.undo(ANN, "choice", first.id)
    assert service.store.trial_choices(trial) == [(ANN, "policy-000000")]
    if then is None:
        assert mine.in_place(ANN, conversation) == ()
        return
    votes.choose(ANN, shown, then)
    assert service.store.trial_choices(trial) == [(ANN, "policy-000000")]
    [again] = mine.in_place(ANN, conversation)
    assert not again.decides
    assert became(service).startswith("Said again after you were told who wrote which reply: ")
    [comparison] = service.store.comparisons()
    assert comparison.label == then  # it is still a comparison of two texts


def test_a_choice_in_a_trial_that_the_operator_left_out_decides_nothing(
    service: ChatService,
) -> None:
    trial, shown = in_trial(service)
    mine, votes = MyVotes(service), Votes(service)
    votes.consent(ANN, given=True)
    votes.choose(ANN, shown, "b")
    conversation = service.store.conversations(ANN)[0].id
    [vote] = mine.in_place(ANN, conversation)
    assert vote.decides
    service.store.leave_out("vote", [vote.id], by="operator", reason="a joke")
    assert service.store.trial_choices(trial) == []
    [vote] = mine.in_place(ANN, conversation)
    assert not vote.decides


# In place


def in_place(service: ChatService) -> str:
    conversation = service.store.conversations(ANN)[0].id
    [one] = MyVotes(service).in_place(ANN, conversation)
    return read([one.receipt])


def test_a_vote_says_in_place_which_round_it_waits_for_and_how_far_that_is(
    service: ChatService,
) -> None:
    choose(service, "train")
    assert in_place(service) == "Saved · waits for round 1 · 1 of 80 votes"
    run_cycle(service.store, "promoted", "policy-000001")
    assert in_place(service) == "Taught version 2"


@pytest.mark.parametrize(
    ("split", "state", "adapter", "says"),
    [
        ("train", "running", None, "Used by round 1, which is running"),
        ("held_out", "running", None, "Used by round 1, which is running"),
        ("held_out", "failed", None, "Saved · kept for tests"),
        ("held_out", "promoted", "policy-000001", "Tested version 2"),
        ("train", "rejected", None, "Taught the reward model of round 1"),
        ("train", "rejected", "policy-000001", "Taught the version of round 1"),
    ],
)
def test_a_used_vote_says_in_place_by_what(
    service: ChatService, split: str, state: str, adapter: str | None, says: str
) -> None:
    choose(service, split)
    run_cycle(service.store, state, adapter)
    assert in_place(service) == says


def test_a_vote_without_consent_says_in_place_that_it_does_not_count(service: ChatService) -> None:
    choose(service, "train")
    service.store.set_consent(ANN, None)
    assert in_place(service) == "Saved · does not count: you have not agreed"


def test_receipts_in_place_read_as_much_however_much_was_said_elsewhere(
    service: ChatService,
) -> None:
    choose(service, "train")
    conversation = service.store.conversations(ANN)[0].id
    mine = MyVotes(service)
    schedule = service.settings.schedule
    service.round_ahead = RoundWatch(service.store, schedule, now=lambda: 0.0)  # reads each time

    def statements() -> int:
        service.store.refresh_comparisons()
        seen: list[str] = []
        connection = service.store._file._reader.conn
        connection.set_trace_callback(seen.append)
        assert len(mine.in_place(ANN, conversation)) == 1
        connection.set_trace_callback(None)
        return len(seen)

    statements()
    before = statements()
    for number in range(30):
        asked = service.store.add_message(service.store.add_conversation(ANN).id, "user", "hi")
        reply = service.store.add_message(
            asked.conversation_id, "assistant", str(number), parent_id=asked.id
        )
        service.store.add_thumb(reply.id, ANN, 1)
    assert statements() == before


def test_every_key_that_a_receipt_can_have_has_its_words() -> None:
    ends = ("served", "built_on", "rolled_back", "rejected", "not_served", "no_version")
    keys = {f"votes.used.{split}.{end}" for split in SPLITS for end in ends}
    keys |= {f"votes.used.{state}" for state in _NO_VERDICT}
    keys |= {"votes.decided.open", "votes.decided.again", "receipt.went_on"}
    keys |= {f"receipt.{kept}" for kept in ("alone", "alone.tests", "tests", "kept", "waits")}
    keys |= {f"votes.decided.{kind}.{end}" for kind in TRIAL_KINDS for end in TRIAL_OUTCOMES}
    keys |= {f"votes.waits.{kind}.{split}" for kind, split in _OWN_WAIT}
    keys |= {f"votes.waits.vote.{split}" for split in SPLITS}
    keys |= {f"votes.said.choice.{choice}" for choice in CHOICES}
    keys |= {f"votes.said.retry.{said}" for said in THAN_BEFORE}
    keys |= {f"votes.said.{kind}" for kind in ("ranking", "demonstration", "retry")}
    keys |= {f"votes.state.{state}" for state in STATES} | {f"votes.kind.{kind}" for kind in KINDS}
    keys |= {
        f"receipt.{did}{end}"
        for did in ("taught", "tested")
        for end in ("", ".round", ".not_served")
    }
    assert not {key for key in keys if key not in WORDS}


def test_a_version_that_was_never_served_is_named_by_its_round(service: ChatService) -> None:
    choose(service, "train")
    run_cycle(service.store, "passed", "policy-000001")
    assert became(service) == "Taught the version of round 1, which has not answered so far."
    assert in_place(service) == "Taught the version of round 1"
