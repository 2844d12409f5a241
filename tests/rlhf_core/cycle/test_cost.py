from dataclasses import replace
from itertools import combinations

import pytest

from feedback_store import FeedbackStore
from rlhf_core.config import CycleSettings, GateSettings, PolicySettings
from rlhf_core.cycle import cost
from rlhf_core.cycle.cost import plan_cycle, plan_work, work_of
from rlhf_core.cycle.snapshot import take_snapshot
from rlhf_core.cycle.stages import SHARES, STAGES
from rlhf_core.errors import NoRoomError
from rlhf_core.records import Comparison, Unpaired
from rlhf_core.training.plan import Workload

WORK = Workload(opinions=200, held_out=60, demonstrations=0, prompt_tokens=30, reply_tokens=20)
SETTINGS = CycleSettings(min_comparisons=10, gate=GateSettings(min_prompts=2))


@pytest.fixture
def snapshot(data):
    with FeedbackStore(data / "feedback.db") as store:
        return take_snapshot(store, SETTINGS)


def test_a_small_model_is_not_measured(model_path, snapshot, short):
    assert plan_cycle(str(model_path), snapshot, SETTINGS, short, "none") is None


def test_a_plan_gives_every_stage_its_share(model_path, snapshot, short, monkeypatch):
    monkeypatch.setattr(cost, "WORTH_MEASURING", 0)
    planned = plan_cycle(str(model_path), snapshot, SETTINGS, short, "none")
    assert planned is not None and planned.estimate.hours > 0
    for shares in (planned.estimate.shares, SHARES):
        assert tuple(shares) == STAGES
        assert sum(shares.values()) == pytest.approx(1.0)


def test_a_cycle_that_cannot_fit_says_so_before_it_trains(model_path, snapshot, short, monkeypatch):
    monkeypatch.setattr(cost, "WORTH_MEASURING", 0)
    huge = PolicySettings(batch_size=2**28, minibatch_size=64)
    settings = SETTINGS.model_copy(update={"policy": huge})
    with pytest.raises(NoRoomError, match=r"a cycle needs .* GB .* are free; lower policy"):
        plan_cycle(str(model_path), snapshot, settings, short, "none")


def test_rows_at_once_are_halved_before_a_cpus_memory_runs_out(
    model_path, snapshot, short, monkeypatch
):
    work = replace(WORK, most_each=64)  # so that the reward model's rows need most of the memory
    whole = plan_work(str(model_path), work, SETTINGS, short, "none")
    middle = int(whole.estimate.least + 0.1 * (whole.estimate.memory - whole.estimate.least))
    narrow = replace(whole.machine, free=middle)
    monkeypatch.setattr(cost, "machine_facts", lambda: narrow)
    plan = plan_work(str(model_path), work, SETTINGS, short, "none")
    assert plan.fits and plan.halvings > 0
    assert plan.estimate.memory <= narrow.free < whole.estimate.memory
    assert plan.settings.reward.micro_batch_size < SETTINGS.reward.batch_size
    assert plan.settings.reward.decisive() == SETTINGS.reward.decisive()  # the result is the same


def test_the_pairs_of_a_ranking_are_one_opinion(snapshot, base):
    ask, replies = snapshot.prompts[0], ("one", "two", "three")
    ranked = [Comparison(ask, a, b, "a", group="r") for a, b in combinations(replies, 2)]
    alone = Comparison(ask, "kind", "rude", "a")
    thumb = Unpaired(ask, "kind", good=True, rater="1")
    work = work_of(
        replace(snapshot, train=(*ranked, alone), train_thumbs=(thumb,), held_out=()), base.chat
    )
    assert (work.opinions, work.each, work.most_each) == (3, 2.0, 3)
