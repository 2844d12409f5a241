"""What a receipt says of a vote: cast, used, and after its adapter was rolled back or promoted."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from chat_app.handlers.receipts import receipts_of
from chat_app.service.chat import ChatService
from feedback_store.records import CandidateReply, Message
from feedback_store.splits import is_held_out_question
from feedback_store.store import FeedbackStore
from tests.chat_app.fakes import FakeEngine, fake_service

ANN = "ann"
QUESTIONS = {
    held_out: next(q for q in map(str, itertools.count()) if is_held_out_question(q) is held_out)
    for held_out in (False, True)
}
SPLITS = ("train", "held_out", "held_out_raters")


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
    [receipt] = receipts_of(service, ANN)
    return receipt.became


@pytest.mark.parametrize(
    ("split", "says"),
    [
        ("train", "Trained policy-000001, which answers now."),
        (
            "held_out",
            "Tested policy-000001, which answers now. It did not train on this: the question is "
            "kept for tests.",
        ),
        (
            "held_out_raters",
            "Tested the reward model of policy-000001, which answers now. It did not train on "
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
    assert became(service).startswith("Not among those that the last cycle drew; a later one may")


@pytest.mark.parametrize("split", SPLITS)
def test_a_roll_back_and_a_promotion_back_change_the_receipt(
    service: ChatService, split: str
) -> None:
    choose(service, split)
    run_cycle(service.store, "promoted", "policy-000001")
    now = became(service)
    service.store.serve("policy-000000", by="operator")
    rolled_back = became(service)
    assert "policy-000001, which answered for a while and was rolled back" in rolled_back
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
    says = "Trained policy-000001, from which the policy that answers now was trained."
    assert became(service) == says


def test_a_later_cycle_that_was_rejected_does_not_hide_the_adapter_that_answers(
    service: ChatService,
) -> None:
    choose(service, "train")
    run_cycle(service.store, "promoted", "policy-000001")
    run_cycle(service.store, "rejected", "policy-000002", parent="policy-000001")
    assert became(service) == "Trained policy-000001, which answers now."


@pytest.mark.parametrize(
    ("split", "state", "adapter", "says"),
    [
        ("train", "running", None, "Used by cycle 1, which is running."),
        ("held_out_raters", "running", None, "Used by cycle 1, which is running."),
        ("train", "refused", None, "Waits for the next training cycle."),
        ("train", "failed", None, "Waits for the next training cycle."),
        ("held_out", "failed", None, "Kept to test new policies; never trained on."),
        ("held_out_raters", "refused", None, "once there are enough such votes; never trained"),
        ("train", "rejected", None, "Trained the reward model of cycle 1, which made no new"),
        ("held_out_raters", "rejected", None, "Tested the reward model of cycle 1, which made no"),
        ("train", "rejected", "policy-000001", "Trained policy-000001, which was rejected and has"),
        ("held_out", "rejected", "policy-000001", "Tested policy-000001, which was rejected and"),
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
    assert said.startswith("Trained policy-000001, which answers now. Counts for nothing now: held")


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
    trains = any(words in said for words in ("training cycle", "next cycle", "imitate"))
    assert trains == (split == "train")
    nothing = {("answer", "held_out"), ("both_bad", "held_out")} | {
        (name, "held_out_raters") for name in ("both_bad", "tie", "rewritten", "answer")
    }
    assert said.startswith("Used for nothing") == ((kind, split) in nothing)
