"""A cycle on another machine: another process, in an empty folder, with no data directory."""

import json
import time

import pytest

from chat_app.simulate import Plan, run_simulation
from tests.end_to_end.running import Chatter, command, service
from tests.end_to_end.test_cycle import SMALL

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def test_a_running_server_swaps_to_an_adapter_that_was_trained_elsewhere(tmp_path):
    data, hidden, out = tmp_path / "data", tmp_path / "hidden", tmp_path / "elsewhere" / "out"
    file = tmp_path / "elsewhere" / "evidence.tar"
    with service(data, **SMALL) as url:
        run_simulation(Plan(url, visitors=30, events=420, seed=3), show=False)
        wrote = command("evidence", str(file), "--data", str(data), "--json", **SMALL)
        assert wrote.returncode == 0, wrote.stderr
        assert json.loads(wrote.stdout)["comparisons"] >= 60
        words = ("cycle", "--evidence", str(file), "--out", str(out), "--json")
        # A data directory that is not there: of its own settings the job has none, either.
        done = command(*words, FEEDBACK_CHAT_DATA=str(hidden))
        assert done.returncode == 0, done.stderr
        assert not hidden.exists() and not (out / "work").exists()
        chatter = Chatter(url)
        chatter.start()
        added = command("adapters", "add", str(out), "--data", str(data), "--json", **SMALL)
        until = time.monotonic() + 20
        while "policy-000001" not in chatter.adapters[-1:] and time.monotonic() < until:
            time.sleep(0.05)
        chatter.enough.set()
        chatter.join()
    assert added.returncode == 0, added.stderr
    facts = json.loads(added.stdout)
    assert (facts["state"], facts["adapter"]) == ("promoted", "policy-000001")
    assert facts["metrics"]["win_rate_low"] > 0.5
    assert chatter.failures == []
    assert chatter.adapters[-1] == "policy-000001"
