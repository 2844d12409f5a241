"""A disk dies while the service runs: what the last backup has is served again."""

import time
from pathlib import Path

import httpx
import pytest

from tests.chat_app.serving import serving, until
from tests.end_to_end.running import command

ASKED = {"model": "policy", "messages": [{"role": "user", "content": "What is 2 + 2?"}]}
HEADERS = {"Authorization": "Bearer ann"}
GAUGE = "feedback_chat_backup_verified_timestamp_seconds"


def client(url: str) -> httpx.Client:
    return httpx.Client(base_url=url, headers=HEADERS, timeout=60, trust_env=False)


def verified_at(http: httpx.Client) -> float:
    """When the metrics say that the last verified backup was made."""
    text = http.get("/metrics").text
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(GAUGE))


@pytest.mark.slow
def test_a_vote_is_there_after_the_disk_is_lost(tmp_path: Path) -> None:
    disk, backups, new = tmp_path / "disk", tmp_path / "backups", tmp_path / "new"
    log = tmp_path / "log"
    daily = {"backups__folder": str(backups), "backups__every_hours": "0.001"}
    with serving(disk, log=log, schedule__poll_seconds="0.2", **daily) as (process, url):
        with client(url) as http:
            answer = http.post("/v1/chat/completions", json=ASKED).json()
            vote = {"message_id": answer["id"], "thumb": "up", "idempotency_key": "1"}
            assert http.post("/v1/feedback", json=vote).status_code == 200
            voted = time.time()
            until(lambda: verified_at(http) > voted + 1)  # one that began after the vote
        process.kill()
        process.wait()
    disk.rename(tmp_path / "lost")
    newest = max(path for path in backups.glob("auto-*") if (path / "verified.json").is_file())
    done = command("restore", str(newest), "--data", str(new))
    assert done.returncode == 0, done.stderr
    assert command("adapters", "verify", "--data", str(new)).returncode == 0
    with serving(new, log=log) as (_, url), client(url) as http:
        assert answer["id"] in http.get("/v1/me").text
        assert http.get("/v1/feedback/me").json()["events"], "and the vote"
        assert http.post("/v1/chat/completions", json=ASKED).status_code == 200
