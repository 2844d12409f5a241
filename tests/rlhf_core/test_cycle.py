import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from feedback_store import BASE_ADAPTER, CandidateReply, CycleInProgressError, FeedbackStore
from rlhf_core.config import CycleSettings
from rlhf_core.cycle import run_cycle, take_snapshot
from rlhf_core.errors import ModelError, NotEnoughDataError

SETTINGS = CycleSettings(min_comparisons=10)


def vote(store, number, choice="a", *, prompt=None):
    """One rater prefers one of two replies to a prompt of its own."""
    rater = store.add_rater(f"rater-{number % 5}", kind="simulated").id
    conversation = store.add_conversation(rater).id
    asked = store.add_message(conversation, "user", prompt or f"What is {number} plus 1?")
    replies = [
        CandidateReply(
            content=f"{word} {number}",
            adapter=BASE_ADAPTER,
            sampling={},
            seed=0,
            finish_reason="stop",
        )
        for word in ("kind", "rude")
    ]
    candidates, _ = store.add_candidates(asked.id, replies, rater_id=rater)
    store.add_choice(candidates, rater, choice, idempotency_key=f"vote-{number}")


@pytest.fixture
def data(tmp_path):
    """A data directory with 40 votes."""
    with FeedbackStore(tmp_path / "feedback.db") as store:
        for number in range(40):
            vote(store, number)
    return tmp_path


def test_forty_votes_are_too_little_evidence_and_change_nothing(data):
    cycle = run_cycle(data, CycleSettings())
    assert cycle.state == "refused"
    assert "too little evidence: 40" in cycle.reasons[0]
    assert not (data / "adapters").exists()
    with FeedbackStore(data / "feedback.db") as store:
        assert store.serving().adapter == BASE_ADAPTER


def test_the_snapshot_keeps_held_out_prompts_out_of_training(data):
    with FeedbackStore(data / "feedback.db") as store:
        found = take_snapshot(store, SETTINGS)
    train = {json.dumps(c.prompt) for c in found.train}
    held_out = {json.dumps(c.prompt) for c in found.held_out}
    assert train and held_out and not train & held_out
    assert {json.dumps(p) for p in found.prompts} <= train
    assert {json.dumps(p) for p in found.held_out_prompts} == held_out


def test_rewritten_answers_train_but_are_no_votes(data):
    with FeedbackStore(data / "feedback.db") as store:
        before = take_snapshot(store, SETTINGS)
        rater = store.add_rater("writer", kind="simulated").id
        conversation = store.add_conversation(rater).id
        for number in range(12):
            asked = store.add_message(conversation, "user", f"Name thing {number}.")
            reply = store.add_message(
                conversation, "assistant", "no", parent_id=asked.id, adapter=BASE_ADAPTER
            )
            store.add_demonstration(
                rater, f"thing {number}", message_id=reply.id, idempotency_key=f"better-{number}"
            )
        after = take_snapshot(store, SETTINGS)
    assert len(after.train) + len(after.held_out) == 52
    assert len(after.train_votes) == len(before.train_votes)
    assert 0 < len(after.demonstrations) < 12  # the rest are on held-out prompts


def test_ties_are_no_evidence_by_themselves(tmp_path):
    with FeedbackStore(tmp_path / "feedback.db") as store:
        for number in range(40):
            vote(store, number, "tie")
        with pytest.raises(NotEnoughDataError, match="0 decided"):
            take_snapshot(store, SETTINGS)


def test_votes_that_a_cycle_used_are_not_new_again(data):
    with FeedbackStore(data / "feedback.db") as store:
        row = store.start_cycle({}, pid=os.getpid())
        store.use_comparisons(row.id, take_snapshot(store, SETTINGS).ids)
        store.finish_cycle(row.id, state="rejected", reasons=("a test",))
        with pytest.raises(NotEnoughDataError, match="nothing new"):
            take_snapshot(store, SETTINGS)
        vote(store, 99)
        assert len(take_snapshot(store, SETTINGS).ids) == 41


def test_a_failed_stage_is_written_down_and_serving_stays(data):
    with pytest.raises(ModelError):
        run_cycle(data, SETTINGS, model=str(data / "no-such-model"))
    with FeedbackStore(data / "feedback.db") as store:
        cycle = store.last_cycle()
        assert cycle.state == "failed"
        assert "no-such-model" in cycle.reasons[0]
        assert store.serving().adapter == BASE_ADAPTER


def test_a_second_cycle_is_refused_while_one_runs(data):
    sleeper = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        with FeedbackStore(data / "feedback.db") as store:
            store.start_cycle({}, pid=sleeper.pid)
        with pytest.raises(CycleInProgressError):
            run_cycle(data, SETTINGS)
    finally:
        sleeper.kill()
        sleeper.communicate()
    assert run_cycle(data, CycleSettings()).state == "refused"  # a dead one is in nobody's way


def test_the_resolved_settings_lie_beside_the_results(data):
    cycle = run_cycle(data, CycleSettings(seed=7))
    found = json.loads(Path(data / "cycles" / f"{cycle.id:06d}" / "config.json").read_text())
    assert (found["seed"], found["model"]) == (7, "starter")
