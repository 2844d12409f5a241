"""`feedback-chat tail` shows votes as they come, beside a server and without one."""

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from chat_app.commands.tail import tail
from chat_app.errors import InvalidRequestError
from feedback_store.errors import ConflictError
from feedback_store.records import PromptMessage
from feedback_store.store import FeedbackStore
from tests.chat_app.serving import running, until


@contextmanager
def tailing(
    data: Path, *options: str
) -> Iterator[tuple[subprocess.Popen[bytes], Callable[[], list[str]]]]:
    """The command, and what gives the lines that it has printed so far."""
    command = [sys.executable, "-m", "chat_app", "tail", "--data", str(data), *options]
    printed = data / "printed"
    with printed.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        yield process, lambda: printed.read_text().splitlines()
    finally:
        process.kill()
        process.wait()


def vote(store: FeedbackStore, rater: str, text: str = "hello") -> None:
    with suppress(ConflictError):  # known already
        store.add_rater(rater, consent="1")
    [asked] = store.add_dialogue(rater, [PromptMessage(role="user", content=text)])
    answer = {"parent_id": asked.id, "adapter": "policy-000000"}
    reply = store.add_message(asked.conversation_id, "assistant", f"{text}!", **answer)  # type: ignore[arg-type]
    store.add_thumb(reply.id, rater, 1, tags=("correct",))


@pytest.mark.slow
def test_votes_are_shown_as_they_come_and_ctrl_c_ends_it_well(tmp_path: Path) -> None:
    with FeedbackStore(tmp_path / "feedback.db") as store:
        vote(store, "ann")
        with tailing(tmp_path, "--since", "0") as (process, lines):
            until(lambda: len(lines()) == 1)
            vote(store, "bob", "zanzibar")
            until(lambda: len(lines()) == 2)
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0
    assert len(lines()) == 2, "nothing else is printed, no traceback either"
    assert "thumb  up  by ann  policy-000000  (correct)" in lines()[0]
    assert "by bob" in lines()[1] and "zanzibar" not in "".join(lines())


@pytest.mark.slow
def test_json_with_texts_has_all_of_a_vote_and_begins_after_a_number(tmp_path: Path) -> None:
    with FeedbackStore(tmp_path / "feedback.db") as store:
        vote(store, "ann", "first")
        first = store.last_happening()
        vote(store, "ann", "second")
    with tailing(tmp_path, "--since", str(first), "--json", "--text") as (_, lines):
        until(lines)
    said = json.loads(lines()[0])
    assert (said["event"], said["said"], said["asked"]) == ("thumb", "up", "second")
    assert said["replies"][0]["content"] == "second!"


@pytest.mark.slow
def test_a_terminal_gets_no_control_characters_of_what_people_wrote(tmp_path: Path) -> None:
    with FeedbackStore(tmp_path / "feedback.db") as store:
        vote(store, "ann", "red\x9b31m\u202e")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "chat_app", "tail", "--data", str(tmp_path), "--since", "0"]
    with subprocess.Popen([*command, "--text", "--json"], stdout=theirs) as process:
        shown = b""
        while b"\n" not in shown:
            shown += os.read(ours, 4096)
        process.kill()
    said = json.loads(shown)
    assert shown.isascii() and said["asked"] == "red\x9b31m\u202e"
    os.close(ours)
    os.close(theirs)


@pytest.mark.slow
def test_a_server_writes_while_its_votes_are_shown(tmp_path: Path, tiny_model: Path) -> None:
    asked = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
    with (
        running(tmp_path, tiny_model) as service,
        tailing(tmp_path, "--since", "0", "--kind", "thumb") as (_, lines),
        service.client("ann") as http,
    ):
        for number in range(20):
            reply = http.post("/v1/chat/completions", json=asked).json()
            said = {"message_id": reply["id"], "thumb": "up", "idempotency_key": str(number)}
            assert http.post("/v1/feedback", json=said).status_code == 200
        until(lambda: len(lines()) == 20)
    numbers = [int(line.split()[0]) for line in lines()]
    assert numbers == sorted(set(numbers))
    assert all("by token-" in line for line in lines())


@pytest.mark.slow
def test_a_reader_that_has_enough_and_an_unknown_kind_are_no_tracebacks(tmp_path: Path) -> None:
    with FeedbackStore(tmp_path / "feedback.db") as store:
        for _ in range(3):
            vote(store, "ann")
    command = f"{sys.executable} -m chat_app tail --data {tmp_path}"
    env = os.environ | {"PYTHONUNBUFFERED": "1"}
    wrong = subprocess.run(
        [*command.split(), "--kind", "like"], capture_output=True, text=True, check=False, env=env
    )
    assert wrong.returncode == 2 and "there is no kind 'like'" in wrong.stderr
    assert len(wrong.stderr.splitlines()) == 1


def test_what_there_is_can_be_shown_without_waiting_and_a_number_to_come_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with FeedbackStore(tmp_path / "feedback.db") as store:
        for rater in ("ann", "bob", "cy"):
            vote(store, rater)
    tail(data=tmp_path, since=1, no_follow=True)
    assert ["bob" in line for line in capsys.readouterr().out.splitlines()] == [True, False]
    with pytest.raises(InvalidRequestError, match="--since is 4, but the newest number is 3"):
        tail(data=tmp_path, since=4)
