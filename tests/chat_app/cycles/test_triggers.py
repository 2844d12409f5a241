"""Fifty triggers at one moment, from all sides: one cycle runs."""

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from chat_app.cycles.scheduler import Scheduler
from chat_app.errors import RefusedError
from chat_app.handlers.operate.acts import Acts
from chat_app.settings import ScheduleSettings
from feedback_store import CandidateReply, FeedbackStore
from tests.chat_app.serving import running, until

COMMANDS, OTHERS = 2, 16  # triggers of each kind; a command imports torch first
# A cycle on few votes that lasts longer than all triggers.
CONFIG = """
quantization = "none"
[reply]
prompt_tokens = 128
tokens = 8
temperature = 1.0
top_p = 1.0
[cycle]
min_comparisons = 4
gate = {min_prompts = 2}
reward = {members = 1, min_steps = 100000, batch_size = 8}
"""


def honest_votes(store: FeedbackStore, first: int = 0) -> None:
    """Votes of three raters, for a reply that stands on either side."""
    for number in range(first, first + 48):
        rater = store.add_rater(f"rater-{number % 3}", kind="simulated").id
        asked = store.add_message(store.add_conversation(rater).id, "user", f"What is {number}?")
        sides = ["kind", "rude"] if number % 2 else ["rude", "kind"]
        replies = [CandidateReply(f"{word} {number}") for word in sides]
        shown, _ = store.add_candidates(asked.id, replies, rater_id=rater)
        store.add_choice(shown, rater, "ab"[sides.index("kind")], idempotency_key=shown)
    store.refresh_comparisons()


def end_refused(commands: "list[subprocess.Popen[str]]", running: int) -> None:
    """All commands but the one whose cycle runs end by themselves, with one line."""
    refused = [command for command in commands if command.pid != running]
    until(lambda: all(command.poll() is not None for command in refused))
    assert [command.returncode for command in refused] == [3] * len(refused)
    for command in refused:
        error = command.communicate()[1]
        assert "is running" in error and len(error.strip().splitlines()) == 1, error


@pytest.mark.slow
def test_fifty_triggers_at_once_start_one_cycle_which_is_then_cancelled(
    tmp_path: Path, tiny_model: Path
) -> None:
    (tmp_path / "config.toml").write_text(CONFIG)
    words = ["-m", "chat_app", "cycle", "--data", str(tmp_path), "--model", str(tiny_model)]
    said: list[str] = []

    def told(trigger: Callable[[], object]) -> None:
        try:
            said.append("began" if trigger() else "was not due")
        except RefusedError as exc:
            said.append(str(exc).partition(" (")[0])

    with running(tmp_path, tiny_model) as served:
        service, token = served.service, served.identity.operator_token
        honest_votes(service.store)
        page, due = Acts(service), ScheduleSettings(new_comparisons=4, min_hours=0)

        def by_api() -> bool:
            with served.client(token) as client:
                answer = client.post("/v1/operate/cycle")
            if answer.status_code == 409:
                raise RefusedError(answer.json()["error"]["message"])
            return answer.status_code == 202

        kinds: list[Callable[[], object]] = [
            by_api,
            lambda: page.run_cycle(allowed=True),
            Scheduler(service.store, due, service.cycles.start).check,
        ]
        commands = [
            subprocess.Popen([sys.executable, *words], stderr=subprocess.PIPE, text=True)
            for _ in range(COMMANDS)
        ]
        threads = [threading.Thread(target=told, args=[kind]) for kind in kinds * OTHERS]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        until(lambda: service.store.running_cycle() is not None)
        [cycle] = service.store.cycles()
        end_refused(commands, cycle.pid)
        counted = Counter(said)
        assert counted["began"] == 1 and len(said) == len(kinds) * OTHERS, counted
        assert set(counted) <= {"began", "was not due", "a cycle is running"}, counted
        # a command may have been first: then the process of the server refused itself
        until(lambda: service.cycles.running() == cycle.pid)
        with served.client(token) as client:
            answer = client.post("/v1/operate/cancel")
            assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
            again = client.post("/v1/operate/cancel")
        assert again.status_code == 409 and "no cycle is running" in again.text
        assert [c.state for c in service.store.cycles()] == ["cancelled"]
        assert service.cycles.running() is None
        for command in commands:  # one of them may have run the cycle
            command.wait()
            assert command.stderr is not None
            command.stderr.close()
