"""The command as people call it: killed in the middle, called again, and its result read."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rlhf_core.reproduction.profiles import SEEDS

ROOT = Path(__file__).parents[3]


def begin(out: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "chat_app", "reproduce", "--profile", "ci", "--out", str(out)]
    return subprocess.Popen(
        [*command, *more], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def done_stages(out: Path) -> set[str]:
    return {path.parent.name for path in out.glob(f"ci/seed-{SEEDS[0]}/[!.]*/result.json")}


def workers_of(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children]


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_a_killed_run_goes_on_and_ends_with_every_claim(tmp_path: Path) -> None:
    first = begin(tmp_path, "--claims", "1,5")
    while not done_stages(tmp_path):
        assert first.poll() is None, first.communicate()
        time.sleep(0.5)
    workers = workers_of(first.pid)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    kept = done_stages(tmp_path)
    for _ in range(100):  # the workers notice that their parent is gone
        if not any(Path(f"/proc/{worker}").exists() for worker in workers):
            break
        time.sleep(0.2)
    assert not [worker for worker in workers if Path(f"/proc/{worker}/exe").exists()]

    second = begin(tmp_path, "--claims", "1,5", "--json")
    said, errors = second.communicate()
    assert second.returncode == 0, errors
    result = json.loads(said)
    assert kept <= done_stages(tmp_path)
    verdicts = {claim["number"]: claim for claim in result["claims"]}
    assert verdicts.keys() == set(range(1, 15))
    assert {n for n, c in verdicts.items() if c["verdict"] in ("met", "not met")} == {1, 5}
    assert verdicts[2]["why"] == "not asked for"
    assert verdicts[1]["figures"]["win rate"]["value"] > 0.5  # a direction, no bar
    assert not result["bars_changed"] and len(result["claims_sha256"]) == 64
    assert {"result.json", "index.html", "summary.md"} <= set(os.listdir(tmp_path / "ci"))


def test_a_claim_that_there_is_not_is_refused_in_one_line(tmp_path: Path) -> None:
    done = begin(tmp_path, "--claims", "15")
    said, errors = done.communicate()
    assert (done.returncode, said) == (2, "")
    assert errors.count("\n") == 1 and "use numbers from 1 to 14, such as 1,5" in errors
    assert not list(tmp_path.iterdir())
