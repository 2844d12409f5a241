"""`feedback-chat cycle --dry-run` says what a cycle would do, and writes nothing."""

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chat_app.commands.find_model import resolved
from chat_app.commands.main import main
from chat_app.settings import load_settings
from feedback_store import CandidateReply, FeedbackStore
from rlhf_core.config import CycleSettings
from rlhf_core.cycle import run_cycle
from tests.chat_app.cycles.test_triggers import honest_votes
from tests.chat_app.engine.vllm.stand_in import standing_in

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    def run(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["feedback-chat", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        return (int(end.value.code or 0), *capsys.readouterr())

    return run


@pytest.fixture
def data(tmp_path: Path, tiny_model: Path) -> Path:
    """48 votes, and a configuration under which they are enough."""
    with FeedbackStore(tmp_path / "feedback.db") as store:
        honest_votes(store)
    write_config(tmp_path, tiny_model, min_comparisons=20)
    return tmp_path


def write_config(data: Path, model: Path, **cycle: Any) -> None:
    lines = [f"model = '{model}'", "quantization = 'none'", "[reply]", "prompt_tokens = 128"]
    lines += ["tokens = 8", "[cycle]", *(f"{name} = {value}" for name, value in cycle.items())]
    (data / "config.toml").write_text("\n".join([*lines, "gate = {min_prompts = 2}"]) + "\n")


def contents(data: Path) -> dict[str, str]:
    files = (path for path in data.rglob("*") if path.is_file())
    return {str(p.relative_to(data)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_a_dry_run_tells_evidence_split_plan_and_cost_and_changes_no_byte(
    command: Command, data: Path
) -> None:
    before = contents(data)
    code, out, err = command("cycle", "--dry-run", "--data", data)
    assert (code, contents(data)) == (0, before), err
    assert "starts anew; nothing is written" in out
    assert "48 decided comparisons, 0 ties, 0 thumbs alone: they count as 48.0" in out
    assert "(20 needed, 80 for PPO's full step); 48 new (1 needed)" in out
    assert "\n  - a smaller step: " in out
    for line in ("split", "one cycle", "memory"):
        assert f"\n{line} " in out
    facts = json.loads(command("cycle", "--dry-run", "--data", data, "--json")[1])
    assert sum(facts["split"].values()) == 48
    step = facts["iterations"]
    assert step["planned"] == round((48 / 80) ** 0.5 * step["most"])
    assert facts["evidence"]["held_out_prompts"] == facts["split"]["held_out"]
    assert facts["refusal"] is None and facts["plan"]["hours"] > 0
    assert contents(data) == before


def test_what_a_dry_run_says_of_a_refusal_is_what_the_cycle_says(
    command: Command, data: Path, tiny_model: Path
) -> None:
    with FeedbackStore(data / "feedback.db") as store:
        store.quarantine("rater-0", by="operator", reason="posts links")
    write_config(data, tiny_model, min_comparisons=40)
    before = contents(data)
    code, out, err = command("cycle", "--dry-run", "--data", data, "--json")
    facts = json.loads(out)
    assert code == 3 and err.startswith("feedback-chat: a cycle would be refused: too little")
    assert contents(data) == before
    settings = CycleSettings(min_comparisons=40, gate={"min_prompts": 2})
    refused = run_cycle(data, settings, model=str(tiny_model), quantization="none")
    assert refused.state == "refused"
    assert refused.reasons == (facts["refusal"], *facts["left_out"])
    assert "16 comparisons of 1 rater in quarantine (“posts links”)" in refused.reasons[1]


def test_a_dry_run_says_that_raters_would_be_quarantined_and_quarantines_nobody(
    command: Command, data: Path, tiny_model: Path
) -> None:
    with FeedbackStore(data / "feedback.db") as store:
        store.add_rater("hasty", kind="simulated")
        for number in range(20):
            chat = store.add_conversation("hasty").id
            asked = store.add_message(chat, "user", f"Why {number}?")
            replies = [CandidateReply("yes"), CandidateReply("no")]
            shown, _ = store.add_candidates(asked.id, replies, rater_id="hasty")
            store.add_choice(shown, "hasty", "a", idempotency_key=shown)
    _, out, _ = command("cycle", "--dry-run", "--data", data)
    assert "20 comparisons of 1 rater in quarantine (“chose the left side in 20 of 20" in out
    with FeedbackStore(data / "feedback.db") as store:
        assert store.rater("hasty").quarantined_at is None


class Killed(BaseException):
    """Stands in for a kill."""


def test_a_dry_run_says_which_cycle_would_be_resumed(
    command: Command, data: Path, tiny_model: Path
) -> None:
    def die(stage: str, _share: float, _metrics: dict[str, float]) -> None:
        if stage == "snapshot":
            raise Killed

    settings = resolved(load_settings(data=data))
    with pytest.raises(Killed):
        run_cycle(
            data,
            settings.cycle,
            reply=settings.reply,
            model=settings.model,
            quantization=settings.packing,
            progress=die,
        )
    before = contents(data)
    code, out, err = command("cycle", "--dry-run", "--data", data)
    assert code == 0, err
    assert "goes on with cycle 1; nothing is written" in out
    assert contents(data) == before


def test_without_a_database_a_dry_run_is_refused_and_makes_none(
    command: Command, tmp_path: Path
) -> None:
    code, _, err = command("cycle", "--dry-run", "--data", tmp_path / "none")
    assert code == 2 and "no votes yet" in err and not (tmp_path / "none").exists()


def test_a_cancel_by_the_command_when_nothing_runs_is_refused_in_one_line(
    command: Command, data: Path
) -> None:
    code, _, err = command("cycle", "--cancel", "--data", data)
    assert code == 3 and err.startswith("feedback-chat: no cycle is running (none has run yet)")
    assert len(err.splitlines()) == 1


def test_a_dry_run_never_cancels(command: Command, data: Path) -> None:
    with FeedbackStore(data / "feedback.db") as store:
        running = store.start_cycle({}, pid=1)
        code, out, err = command("cycle", "--dry-run", "--cancel", "--data", data)
        assert (code, out) == (2, "") and "exclude each other" in err
        assert store.cycle(running.id).state == "running"


def test_a_dry_run_asks_the_servers_that_would_decode_its_replies(
    command: Command, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEEDBACK_CHAT_CYCLE__POLICY__GENERATION", "vllm")
    with standing_in({}, 1) as [server]:
        urls = f"{server.url},http://127.0.0.1:9"
        monkeypatch.setenv("FEEDBACK_CHAT_ENGINE__VLLM_URLS", urls)
        code, out, err = command("cycle", "--dry-run", "--data", data)
        assert code == 0, err
        assert f"replies    by vLLM at {server.url}: ready" in out
        assert "by vLLM at http://127.0.0.1:9: http://127.0.0.1:9 does not answer" in out
        assert "hours and memory are as if this machine did" in out
    code, out, err = command("cycle", "--dry-run", "--data", data)
    assert code == 3 and err.count("\n") == 1
    assert "no server of vLLM can write its replies" in err
