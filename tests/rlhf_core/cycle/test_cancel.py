"""A cancelled cycle, and one that slept while another took its place, change nothing more."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from feedback_store import BASE_ADAPTER, FeedbackStore
from rlhf_core.cycle import run_cycle
from rlhf_core.cycle.resume import delete_checkpoints
from rlhf_core.cycle.stages import STAGES


@pytest.fixture
def tiny(model_path, small_cycle, short):
    """Runs a cycle of seconds, which has everything: all stages and a verdict."""

    def run(where, **more):
        base = {"model": str(model_path), "quantization": "none", "reply": short}
        return run_cycle(where, small_cycle, **base, **more)

    return run


def cancel_in(data, stage):
    """Cancels the cycle when it reaches a stage, as another process would."""
    done = []

    def tell(now, _share, _metrics):
        if now == stage and not done:
            with FeedbackStore(data / "feedback.db") as store:
                done.append(store.cancel_cycle(by="operator"))

    return tell


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_a_cycle_is_cancelled_at_any_stage_and_serving_is_as_before(data, tiny, stage):
    with FeedbackStore(data / "feedback.db") as store:
        store.refresh_comparisons()
        before = store.serving(), store.new_comparisons()
    ended = tiny(data, progress=cancel_in(data, stage))
    assert (ended.state, ended.reasons) == ("cancelled", ("by operator",))
    assert not list(data.glob("cycles/*/checkpoints"))
    with FeedbackStore(data / "feedback.db") as store:
        assert (store.serving(), store.new_comparisons()) == before
        rows = {adapter.name for adapter in store.adapters()} - {BASE_ADAPTER}
        assert {path.name for path in data.glob("adapters/*")} == rows
        assert not [a for a in store.adapters("policy")[1:] if a.state != "rejected"]


@pytest.mark.slow
def test_the_next_cycle_begins_anew_and_learns_from_the_same_votes(data, tiny):
    cancelled = tiny(data, progress=cancel_in(data, "policy"))
    ended = tiny(data)
    assert (cancelled.state, ended.id) == ("cancelled", 2)
    assert ended.state in ("promoted", "rejected") and "resumed_cycle" not in ended.metrics


def test_a_cycle_deletes_no_checkpoints_of_a_later_one(tmp_path):
    folders = [tmp_path / f"{number:06d}" / "checkpoints" for number in (1, 2, 3)]
    for folder in folders:
        folder.mkdir(parents=True)
    assert delete_checkpoints(tmp_path, up_to=2, keep=tmp_path / "000002") == 1
    assert [folder.exists() for folder in folders] == [False, True, True]
    assert delete_checkpoints(tmp_path) == 2


# A cycle that stops itself, as SIGSTOP or a sleeping laptop would, once it reaches a stage.
SLEEPER = """
import json, os, signal, sys
from pathlib import Path
from rlhf_core.config import CycleSettings, ReplySettings
from rlhf_core.cycle import run_cycle
data, model, stage, settings, reply = sys.argv[1:]
slept = []
def tell(now, share, metrics):
    if now == stage and not slept:
        slept.append(now)
        os.kill(os.getpid(), signal.SIGSTOP)
try:
    run_cycle(
        Path(data), CycleSettings(**json.loads(settings)), model=model, quantization="none",
        reply=ReplySettings(**json.loads(reply)), progress=tell,
    )
except Exception as exc:
    sys.exit(f"{type(exc).__name__}: {exc}")
"""


def stopped(process):
    state = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]
    assert process.poll() is None and state != "Z"
    return state == "T"


def contents(data):
    """Rows and files of a data directory, without what the sleeper notes of itself."""
    with FeedbackStore(data / "feedback.db") as store:
        rows = store.cycles(), store.adapters(), store.serving(), store.counts()
    files = {
        path.relative_to(data): path.read_bytes()
        for folder in ("adapters", "cycles/000002")
        for path in (data / folder).rglob("*")
        if path.is_file()
    }
    return rows, files


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["policy", "publish"])
def test_a_cycle_that_slept_while_another_took_its_place_wakes_and_changes_nothing(
    data, tiny, model_path, small_cycle, short, stage
):
    given = [json.dumps(s.model_dump(exclude_unset=True)) for s in (small_cycle, short)]
    process = subprocess.Popen(
        [sys.executable, "-c", SLEEPER, str(data), str(model_path), stage, *given],
        stderr=subprocess.PIPE,
        text=True,
    )
    while not stopped(process):
        time.sleep(0.02)
    with FeedbackStore(data / "feedback.db") as store, store._file.write() as db:
        # as another container sees it, which cannot look into this one
        db.execute("UPDATE cycles SET process = 'another container/1'")
    woken = []

    def wake(now, _share, _metrics):
        """In the middle of the second cycle the first one wakes up, and ends before it goes on."""
        if now == "policy" and not woken:
            woken.append(contents(data))
            process.send_signal(signal.SIGCONT)
            woken.append(process.communicate()[1])
            woken.append(contents(data))

    second = tiny(data, progress=wake)
    before, said, after = woken
    assert process.returncode == 1
    assert said.strip().splitlines()[-1].startswith("CycleEndedError: cycle 1 has ended (failed)")
    assert after == before, "it wrote no row and no file"
    assert any("checkpoints" in path.parts for path in before[1]), "there were some to lose"
    assert (second.id, second.state in ("promoted", "rejected")) == (2, True)
    assert not list(data.glob("cycles/*/checkpoints"))
