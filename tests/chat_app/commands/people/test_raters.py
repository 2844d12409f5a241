"""`feedback-chat raters`: what each counts, and who is quarantined."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chat_app.commands.main import main
from feedback_store import CandidateReply, FeedbackStore
from feedback_store.feedback.gold_questions import GoldItem
from feedback_store.raters.keys import is_key

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
def data(tmp_path: Path) -> Path:
    """Six raters who know what is right about 15 questions, and one who says the opposite."""
    path = tmp_path / "data"
    with FeedbackStore(path / "feedback.db") as store:
        for rater in [*(f"rater-{i}" for i in range(6)), "contrary"]:
            store.add_rater(rater, consent="1")
            talk = store.add_conversation(rater).id
            for number in range(15):
                asked = store.add_message(talk, "user", f"question {number}")
                sides = ["right", "wrong"] if number % 2 else ["wrong", "right"]
                replies = [CandidateReply(text) for text in sides]
                shown, _ = store.add_candidates(asked.id, replies, rater_id=rater)
                picked = sides.index("wrong" if rater == "contrary" else "right")
                store.add_choice(shown, rater, "ab"[picked], idempotency_key=shown)
    return path


def facts_of(done: tuple[int, str, str]) -> Any:
    assert done[0] == 0, done[2]
    return json.loads(done[1])


def test_raters_are_assessed_listed_released_and_quarantined(command: Command, data: Path) -> None:
    found = facts_of(command("raters", "assess", "--data", data, "--json"))
    assert found["agreement"]["subjects"] == 15
    [held] = [one for one in found["raters"] if one["quarantine"]]
    assert held["rater_id"] == "contrary"
    listed = facts_of(command("raters", "list", "--data", data, "--json"))
    weights = {one["id"]: one["weight"] for one in listed}
    assert (weights.pop("contrary"), set(weights.values())) == (0, {1.0})
    assert {one["decided_by"] for one in listed if one["quarantined_at"]} == {"operator"}
    free = facts_of(command("raters", "release", "contrary", "--data", data, "--json"))
    assert (free["quarantined_at"], free["weight"]) == (None, 1.0)
    words = ["raters", "quarantine", "rater-1", "--reason", "sells votes"]
    kept = facts_of(command(*words, "--data", data, "--json"))
    assert (kept["weight"], kept["reason"]) == (0, "sells votes")


def test_the_text_output_has_the_same_facts(command: Command, data: Path) -> None:
    code, said, _ = command("raters", "assess", "--data", data)
    assert code == 0
    assert "of 7 raters on 15 pairs" in said
    assert "7 raters assessed, 1 for quarantine" in said
    _, said, _ = command("raters", "list", "--data", data)
    [line] = [line for line in said.splitlines() if "contrary" in line]
    assert "said 15  weight 0.00  quarantined by operator: contradicts the others" in line
    assert "counts with weight 1.00" in command("raters", "release", "contrary", "--data", data)[1]
    words = ["raters", "quarantine", "contrary", "--reason", "sells votes", "--data", data]
    assert "is quarantined: sells votes" in command(*words)[1]


def test_the_list_says_who_counts_as_one_with_others_of_the_same_origin(
    command: Command, data: Path
) -> None:
    with FeedbackStore(data / "feedback.db") as store, store._file.write() as db:
        db.execute("UPDATE raters SET origin = '5ec2e7' WHERE id IN ('rater-1', 'rater-2')")
    _, said, _ = command("raters", "list", "--data", data)
    together = [line.split()[0] for line in said.splitlines() if "counts as one with 1 of" in line]
    assert together == ["rater-1", "rater-2"]
    code, said, _ = command("raters", "list", "--data", data, "--json")
    assert code == 0 and "5ec2e7" not in said
    sizes = {one["id"]: one["counts_as_one"] for one in json.loads(said)}
    assert (sizes["rater-1"], sizes["rater-3"]) == (2, 1)


def test_a_second_quarantine_notes_the_new_reason(command: Command, data: Path) -> None:
    words = ["raters", "quarantine", "rater-1", "--data", data, "--json", "--reason"]
    first, second = (facts_of(command(*words, reason)) for reason in ("spam", "sells votes"))
    assert (first["reason"], second["reason"]) == ("spam", "sells votes")
    assert first["quarantined_at"] == second["quarantined_at"] is not None


def test_gold_questions_passed_and_taken_are_shown(command: Command, data: Path) -> None:
    with FeedbackStore(data / "feedback.db") as store:
        item = GoldItem(({"role": "user", "content": "Capital of Italy?"},), "Rome.", "Go away.")
        test = store.gold_question("rater-0", [item], every=1)
        assert test is not None
        [wrong] = [m.label for m in store.candidates(test) if m.content == "Go away."]
        store.add_choice(test, "rater-0", str(wrong), idempotency_key="test")
    listed = facts_of(command("raters", "list", "--data", data, "--json"))
    assert [(one["gold_right"], one["gold_total"]) for one in listed if one["id"] == "rater-0"] == [
        (0, 1)
    ]
    for verb in ("list", "assess"):
        lines = command("raters", verb, "--data", data)[1].splitlines()
        assert [line.split()[0] for line in lines if "tests right 0/1" in line] == ["rater-0"]


def test_without_shared_judgements_agreement_is_said_to_be_unknown(
    command: Command, tmp_path: Path
) -> None:
    with FeedbackStore(tmp_path / "feedback.db") as store:
        store.add_rater("ann", consent="1")
    assert "agreement unknown: no two raters" in command("raters", "assess", "--data", tmp_path)[1]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["release", "rater-1"], 3, "'rater-1' is not quarantined"),
        (["release", "nobody"], 1, "'nobody'"),
        (["quarantine", "rater-1"], 2, "--reason"),
        (["quarantine", "rater-1", "--reason", " "], 1, "needs a reason"),
    ],
)
def test_an_impossible_action_gives_one_line(
    command: Command, data: Path, words: list[str], code: int, says: str
) -> None:
    ended, _, said = command("raters", *words, "--data", data)
    assert (ended, len(said.strip().splitlines())) == (code, 1)
    assert says in said


def test_the_text_of_a_key_is_all_that_making_it_prints(command: Command, data: Path) -> None:
    code, said, more = command("keys", "make", "portal", "--gateway", "--data", data)
    assert code == 0 and is_key(said.strip()) and "not shown again" in more
    _, said, _ = command("keys", "list", "--data", data)
    assert said.split()[:4] == ["portal", "visitor", "gateway", "made"] and "used never" in said
    _, said, _ = command("keys", "revoke", "portal", "--data", data)
    assert said == "the key portal is revoked\n"
    assert "revoked 2" in command("keys", "list", "--data", data)[1]


def test_a_key_that_cannot_be_made_or_revoked_is_one_line(command: Command, data: Path) -> None:
    command("keys", "make", "ann", "--data", data)
    code, _, said = command("keys", "make", "ann", "--data", data)
    assert code == 3 and said.count("\n") == 1 and "a key 'ann' is in use" in said
    code, _, said = command("keys", "revoke", "bob", "--data", data)
    assert code == 1 and "no key 'bob' is in use" in said
    code, _, said = command("keys", "make", "bob", "--data", data / "nothing")
    assert code == 2 and "no database in" in said
