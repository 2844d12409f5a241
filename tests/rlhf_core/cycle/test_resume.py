"""The next cycle resumes a cycle that died, if data, settings and served policy are the same."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from feedback_store import BASE_ADAPTER, FeedbackStore
from rlhf_core.config import AlarmSettings
from rlhf_core.cycle import resume, run_cycle
from rlhf_core.cycle.resume import metrics_of
from rlhf_core.cycle.run import _would_fail_again
from rlhf_core.errors import (
    CheckpointError,
    DivergenceError,
    LaunchError,
    MemoryExhaustedError,
    ModelError,
)


class Killed(BaseException):
    """Stands in for a kill."""


def killed_in(stage, share):
    def tell(now, done, _metrics):
        if (now, round(done, 3)) >= (stage, share) and now == stage:
            raise Killed

    return tell


@pytest.fixture
def tiny(model_path, small_cycle, short):
    """Runs a cycle of seconds, which has everything: all stages and a verdict."""

    def run(where, settings=small_cycle, **more):
        base = {"model": str(model_path), "quantization": "none", "reply": short}
        return run_cycle(where, settings, **base, **more)

    return run


def test_a_torn_line_of_the_metrics_is_left_out_and_the_others_are_read(tmp_path):
    lines = ['{"a": 1}', '{"b": 2', '{"c": {"d": 3}{"e": 4}', '{"f": 5}']
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    assert metrics_of(tmp_path) == [{"a": 1}, {"f": 5}]
    assert metrics_of(tmp_path / "nowhere") == []


@pytest.mark.parametrize("error", [ModelError, LaunchError, MemoryExhaustedError, OSError, Killed])
def test_an_error_that_an_operator_can_repair_leaves_the_checkpoints(error):
    assert not _would_fail_again(error("x"), resumed=True)


def test_an_error_that_would_happen_again_leaves_no_checkpoints():
    for error in (DivergenceError("x"), CheckpointError("x")):
        assert _would_fail_again(error, resumed=False)
    assert not _would_fail_again(KeyError("x"), resumed=False)
    assert _would_fail_again(KeyError("x"), resumed=True)


def test_a_cycle_that_died_before_it_took_over_the_checkpoints_loses_nothing(
    data, tiny, small_cycle
):
    with pytest.raises(Killed):
        tiny(data, progress=killed_in("snapshot", 1.0))
    with FeedbackStore(data / "feedback.db") as store:
        died = store.start_cycle({}, pid=1)
        store.finish_cycle(died.id, state="failed", reasons=("killed",))
    ended = tiny(data, small_cycle.model_copy(update={"alarms": AlarmSettings(kl_share=0.5)}))
    assert ended.metrics["resumed_cycle"] == 1, "other limits of alarms change no result"


def published(data):
    return load_file(data / "adapters" / "policy-000001" / "adapter_model.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "share"), [("sft", 0.5), ("reward", 0.5), ("policy", 0.6), ("evaluate", 0.0)]
)
def test_a_resumed_cycle_ends_as_the_one_that_died_would_have_ended(
    data, tiny, vote, tmp_path, stage, share
):
    other = shutil.copytree(data, tmp_path / "other")
    whole = tiny(other)
    assert whole.state in ("promoted", "rejected") and "win_rate" in whole.metrics
    with pytest.raises(Killed):
        tiny(data, progress=killed_in(stage, share))
    assert (data / "cycles" / "000001" / "checkpoints" / "evidence.json").exists()
    with FeedbackStore(data / "feedback.db") as store:
        vote(store, store.raters()[0].id, 77)  # too late for the snapshot of this cycle
    stages = []
    resumed = tiny(data, progress=lambda stage, _share, metrics: stages.append((stage, metrics)))
    assert (resumed.id, resumed.state, resumed.reasons) == (2, whole.state, whole.reasons)
    assert resumed.metrics["resumed_cycle"] == 1
    assert resumed.metrics["seed"] == whole.metrics["seed"] == 1  # of the cycle that died
    assert whole.metrics["seconds"] and resumed.metrics["seconds"]
    measured = [
        {k: v for k, v in c.metrics.items() if k.split("/")[0] not in COSTS}
        for c in (whole, resumed)
    ]
    del measured[1]["resumed_cycle"]
    assert measured[1] == pytest.approx(measured[0])
    for name, weight in published(other).items():
        torch.testing.assert_close(published(data)[name], weight, rtol=0, atol=1e-6)
    trained = {name for name, metrics in stages if any(k.startswith("loss/") for k in metrics)}
    assert trained <= {"sft", "reward", "policy", "evaluate"} - set(FINISHED_BEFORE[stage])
    plots = [
        json.loads((d / "report.json").read_text())["plots"]
        for d in (other / "cycles" / "000001", data / "cycles" / "000002")
    ]
    assert plots[1]["kl_per_iteration"] == pytest.approx(plots[0]["kl_per_iteration"])
    modes = {path.stat().st_mode & 0o777 for path in data.glob("cycles/*")}
    assert modes == {0o700}  # reports quote people
    assert not list(data.glob("cycles/*/checkpoints")) + list(other.glob("cycles/*/checkpoints"))


COSTS = {"seconds", "memory_gb"}  # of this run, and not of what it found
FINISHED_BEFORE = {
    "sft": [],
    "reward": ["sft"],
    "policy": ["sft", "reward"],
    "evaluate": ["sft", "reward", "policy"],
}


def died(data, tiny):
    with pytest.raises(Killed):
        tiny(data, progress=killed_in("reward", 0.0))


@pytest.mark.slow
def test_other_settings_begin_anew_but_settings_of_memory_resume(data, tiny, small_cycle):
    died(data, tiny)
    small = small_cycle.policy.model_copy(update={"micro_batch_size": 2})
    with pytest.raises(Killed):
        tiny(
            data,
            small_cycle.model_copy(update={"policy": small}),
            progress=killed_in("reward", 0.0),
        )
    assert (data / "cycles" / "000002" / "checkpoints" / "sft.safetensors").exists()
    assert "resumed_cycle" not in tiny(data, small_cycle.model_copy(update={"seed": 5})).metrics


@pytest.mark.slow
def test_a_snapshot_with_withdrawn_votes_is_not_resumed(data, tiny):
    died(data, tiny)
    with FeedbackStore(data / "feedback.db") as store:
        store.quarantine(store.raters()[3].id, reason="a test", by="operator")
    cycle = tiny(data)
    assert "resumed_cycle" not in cycle.metrics


@pytest.mark.slow
def test_a_vote_withdrawn_in_the_moment_of_the_resume_begins_the_cycle_anew(
    data, tiny, monkeypatch
):
    died(data, tiny)
    take_over = resume.take_over

    def take_over_while_somebody_thinks_again(*args, **options):
        found = take_over(*args, **options)
        with FeedbackStore(data / "feedback.db") as store:
            with store._file.read() as db:
                choice = db.conn.execute("SELECT candidates_id, rater_id FROM choices").fetchone()
            store.add_choice(*choice, "tie")
            store.refresh_comparisons()
        return found

    monkeypatch.setattr("rlhf_core.cycle.run.take_over", take_over_while_somebody_thinks_again)
    cycle = tiny(data)
    assert cycle.state in ("promoted", "rejected") and "resumed_cycle" not in cycle.metrics


@pytest.mark.slow
def test_a_cycle_that_diverged_is_not_resumed(data, tiny):
    def explode(stage, _share, _metrics):
        if stage == "policy":
            raise DivergenceError("the loss is not finite")

    with pytest.raises(DivergenceError):
        tiny(data, progress=explode)
    assert not list(data.glob("cycles/*/checkpoints"))
    with FeedbackStore(data / "feedback.db") as store:
        assert store.serving().adapter == BASE_ADAPTER


@pytest.mark.slow
def test_the_reward_model_of_one_cycle_chooses_the_best_sft_pass_of_the_next(data, tiny, vote):
    first = tiny(data)
    assert "sft/score" not in first.metrics  # nothing to choose by yet
    with FeedbackStore(data / "feedback.db") as store:
        store.set_adapter_state(first.adapter, "published")
        store.serve(first.adapter, by="a test")
        vote(store, store.raters()[0].id, 77)
    second = tiny(data)
    assert {"sft/score", "sft/passes", "win_rate"} <= second.metrics.keys()
