"""A judgement on the page Compare is stored whole and once: kills, two tabs, a refusal."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Barrier

import pytest

from chat_app.handlers.compare import Compare
from chat_app.service.chat import ChatService
from feedback_store.errors import InvalidFeedbackError
from feedback_store.records import CandidateReply
from feedback_store.store import FeedbackStore
from tests.chat_app.fakes import FakeEngine, fake_service

RATERS, KILLS = 200, 15

# Each process judges what everybody has open, with consent, until it is killed.
JUDGING = """
import os, random, signal, sys, time
from pathlib import Path
from chat_app.handlers.compare import Compare
from feedback_store import FeedbackStore
from tests.chat_app.fakes import FakeEngine, fake_service

def judge(folder, number):
    with FeedbackStore(folder / "feedback.db") as store:
        compare = Compare(fake_service(store, FakeEngine(), folder))
        for line in (folder / "open").read_text().splitlines():
            compare.choose(*line.split(), "ab"[number % 2], agree=True)

folder, moments = Path(sys.argv[1]), random.Random(0)
for number in range(int(sys.argv[2])):
    pid = os.fork()
    if pid == 0:
        judge(folder, number)
        signal.pause()
    time.sleep(moments.uniform(0.02, 0.2))
    os.kill(pid, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
"""


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ChatService]:
    with FeedbackStore(tmp_path / "feedback.db") as store:
        yield fake_service(store, FakeEngine(), tmp_path)


def opened(service: ChatService, rater: str) -> str:
    """Two replies that wait for a rater who has not agreed to anything."""
    service.visitor(rater)
    said = service.ask(rater, "hello", page="compare")
    replies = [CandidateReply("x"), CandidateReply("y")]
    return service.store.add_candidates(said.id, replies, rater_id=rater)[0]


def stored(service: ChatService) -> list[tuple[str, str | None]]:
    """Every choice that was ever made, with its rater's consent; None if they made none."""
    sql = """SELECT choices.id, raters.consent FROM raters LEFT JOIN choices
        ON choices.rater_id = raters.id"""
    with service.store._file.read() as db:
        return list(db.execute(sql).fetchall())


def judged_before(
    service: ChatService, rater: str, found: str, together: Barrier, choice: str
) -> bool:
    """Judge at the same moment as another tab; whether that one was first."""
    together.wait()
    return Compare(service).choose(rater, found, choice, agree=True).earlier


def test_a_choice_that_is_refused_leaves_no_consent(service: ChatService) -> None:
    found = opened(service, "ann")
    with pytest.raises(InvalidFeedbackError):
        Compare(service).choose("ann", found, "neither", agree=True)
    assert stored(service) == [(None, None)]


def test_of_two_tabs_that_judge_at_once_the_first_one_counts(service: ChatService) -> None:
    for turn in range(10):
        rater = f"ann-{turn}"
        judge = partial(judged_before, service, rater, opened(service, rater), Barrier(2))
        with ThreadPoolExecutor(2) as tabs:
            assert sorted(tabs.map(judge, "ab")) == [False, True]
    assert len(stored(service)) == 10


def test_a_killed_server_has_stored_a_choice_with_its_consent_or_neither(tmp_path: Path) -> None:
    with FeedbackStore(tmp_path / "feedback.db") as store:
        service = fake_service(store, FakeEngine(), tmp_path)
        lines = [f"{name} {opened(service, name)}\n" for name in map(str, range(RATERS))]
    (tmp_path / "open").write_text("".join(lines))
    command = [sys.executable, "-c", JUDGING, str(tmp_path), str(KILLS)]
    subprocess.run(command, check=True, timeout=120)
    with FeedbackStore(tmp_path / "feedback.db") as store:
        compare = Compare(service := fake_service(store, FakeEngine(), tmp_path))
        found = stored(service)
        assert all((choice is None) == (consent is None) for choice, consent in found)
        assert any(consent for _, consent in found)
        for line in lines:  # whoever was not answered judges again
            compare.choose(*line.split(), "tie", agree=True)
        assert len(found := stored(service)) == RATERS and all(all(row) for row in found)
