import pytest

from feedback_store import FeedbackStore
from rlhf_core.config import CycleSettings, GateSettings, PolicySettings
from rlhf_core.cycle import cost
from rlhf_core.cycle.cost import plan_cycle
from rlhf_core.cycle.snapshot import take_snapshot
from rlhf_core.cycle.stages import SHARES, STAGES
from rlhf_core.errors import NoRoomError

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
    assert planned is not None and planned.hours > 0
    for shares in (planned.shares, SHARES):
        assert tuple(shares) == STAGES
        assert sum(shares.values()) == pytest.approx(1.0)


def test_a_cycle_that_cannot_fit_says_so_before_it_trains(model_path, snapshot, short, monkeypatch):
    monkeypatch.setattr(cost, "WORTH_MEASURING", 0)
    huge = PolicySettings(batch_size=2**28, minibatch_size=64)
    settings = SETTINGS.model_copy(update={"policy": huge})
    with pytest.raises(NoRoomError, match=r"a cycle needs at least .* GB .* are free; lower reply"):
        plan_cycle(str(model_path), snapshot, settings, short, "none")
