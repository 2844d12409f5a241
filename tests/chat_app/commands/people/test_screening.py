"""Screening over HTTP and by the command: a test, a role, and whose votes count."""

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner, Result

from chat_app.commands.main import app
from chat_app.errors import InvalidRequestError, RefusedError
from chat_app.service.chat import ChatService
from chat_app.service.gold_file import read_gold
from chat_app.settings import LimitSettings
from feedback_store import ConflictError, FeedbackStore
from tests.chat_app.fakes import FakeEngine, fake_service
from tests.chat_app.serving import running

QUESTIONS = 20
ANN = "ann"
QUESTION = {"prompt": "question", "better": "right", "worse": "wrong"}


@pytest.fixture
def test_file(tmp_path: Path) -> Path:
    """Twenty questions whose answers the team knows."""
    lines = [
        {"prompt": f"question {n}", "better": f"right {n}", "worse": f"wrong {n}"}
        for n in range(QUESTIONS)
    ]
    path = tmp_path / "test.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def answer(client: httpx.Client, right: int) -> dict:
    """Take the whole test, with so many answers as the team's; returns what the API says then."""
    begun = client.get("/v1/comparisons/next").json()["screening"]
    assert begun == {"answered": 0, "questions": QUESTIONS, "passed": None}
    for number in range(QUESTIONS):
        asked = client.get("/v1/comparisons/next").json()["comparison"]
        wanted = "right" if number < right else "wrong"
        label = next(r["label"] for r in asked["replies"] if r["content"].startswith(wanted))
        vote(client, asked["candidates_id"], label)
        told = client.get("/v1/comparisons/next").json()["screening"]
        assert told.keys() == {"answered", "questions", "passed"}, "no answer is given away"
        assert (told["answered"], told["passed"] is None) == (number + 1, number + 1 < QUESTIONS)
    return dict(client.get("/v1/comparisons/next").json())


def vote(client: httpx.Client, candidates_id: str, label: str) -> None:
    body = {"candidates_id": candidates_id, "choice": label, "idempotency_key": candidates_id}
    client.post("/v1/choices", json=body).raise_for_status()


def asks(client: httpx.Client) -> str:
    """Agree, ask, and return what to choose between."""
    client.post("/v1/consent", json={"given": True}).raise_for_status()
    body = {"messages": [{"role": "user", "content": "What is new?"}], "max_tokens": 12, "n": 2}
    return str(client.post("/v1/candidates", json=body).json()["candidates_id"])


def call(data: Path, *given: str) -> Result:
    return CliRunner().invoke(app, [*given, "--data", str(data)])


@pytest.mark.slow
def test_a_candidate_takes_the_test_by_the_api_and_then_may_label(
    tiny_model: Path, tmp_path: Path, test_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    monkeypatch.setenv("FEEDBACK_CHAT_SCREENING__ITEMS", str(test_file))
    with running(data, tiny_model, screening={"items": test_file, "required": True}) as served:
        store = served.service.store
        store.require_screening(on=True)
        with served.client("lena") as lena, served.client("max") as max_:
            told = answer(lena, right=18)
            assert told["comparison"] is None
            assert told["screening"]["passed"] is True
            assert answer(max_, right=9)["screening"]["passed"] is False
        found = json.loads(call(data, "raters", "screen", str(test_file), "--json").stdout)
        passed = {one["passed"]: one["rater_id"] for one in found}
        assert "passed" in call(data, "raters", "list").stdout
        lena_labels = ("keys", "make", "lena", "--role", "labeler", "--passed", passed[True])
        max_labels = ("keys", "make", "max", "--role", "labeler", "--passed", passed[False])
        assert isinstance(call(data, *max_labels).exception, RefusedError)
        assert isinstance(call(data, *lena_labels, "--gateway").exception, RefusedError)
        made = call(data, *lena_labels, "--json")
        with served.client(json.loads(made.stdout)["key"]) as labeler:
            vote(labeler, asks(labeler), "a")
            assert labeler.get("/v1/comparisons/next").json() == {"comparison": None}
        store.refresh_comparisons()
        (counted,) = store.comparisons()
        assert counted.rater_id == served.identity.of_key("lena")
        lena_labels = ("keys", "make", "second", *lena_labels[3:])
        assert isinstance(call(data, *lena_labels).exception, ConflictError)


@pytest.mark.parametrize("more", [("--share", "0.9"), ()])
def test_the_command_takes_back_no_result_of_the_servers_own_test(
    tmp_path: Path, test_file: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...]
) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text(test_file.read_text())
    monkeypatch.setenv("FEEDBACK_CHAT_SCREENING__ITEMS", str(test_file))
    with FeedbackStore(tmp_path / "feedback.db") as store:
        items, lena = read_gold(test_file, LimitSettings()), store.add_rater("lena").id
        for number in range(QUESTIONS):
            shown = store.gold_question(lena, items, every=None)
            assert shown is not None
            wanted = "right" if number < 16 else "wrong"
            choice = next(m.label for m in store.candidates(shown) if m.content.startswith(wanted))
            store.add_choice(shown, lena, choice)
        told = call(tmp_path, "raters", "screen", str(test_file if more else other), *more)
        assert told.exit_code == 0 and "nothing was written" in told.stderr
        assert store.has_passed(lena) is None
        assert call(tmp_path, "raters", "screen", str(test_file)).exit_code == 0
        assert store.has_passed(lena) is True
        call(tmp_path, "raters", "screen", str(test_file), "--share", "0.9")
        assert store.has_passed(lena) is True


@pytest.mark.parametrize(
    ("questions", "chance", "advice"),
    [
        (4, "31.2%", "at most 5% may: write more questions"),  # all four right by guessing: 6%
        (10, "5.5%", "at most 5% may: write more questions, or give --share 0.81 or more"),
    ],
)
def test_a_test_that_guessing_passes_is_refused(
    tmp_path: Path, test_file: Path, questions: int, chance: str, advice: str
) -> None:
    short = tmp_path / "short.jsonl"
    short.write_text("\n".join(test_file.read_text().splitlines()[:questions]))
    refused = call(tmp_path, "raters", "screen", str(short))
    assert isinstance(refused.exception, InvalidRequestError)
    said = str(refused.exception)
    assert f"has {questions} questions, and by guessing {chance} would pass" in said
    assert said.endswith(advice)


def test_a_key_of_a_labeler_asks_for_a_rater_who_is_there_and_passed(
    tmp_path: Path, test_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEEDBACK_CHAT_SCREENING__ITEMS", str(test_file))
    with FeedbackStore(tmp_path / "feedback.db") as store:
        store.add_rater(ANN)
    make = ("keys", "make", "mia", "--role", "labeler")
    for more, error, says in (
        ((), InvalidRequestError, "give --passed RATER"),
        (("--passed", "nix"), InvalidRequestError, "there is no rater 'nix'"),
        (("--passed", ANN), RefusedError, "ann has not passed the screening"),
    ):
        refused = call(tmp_path, *make, *more).exception
        assert isinstance(refused, error) and says in str(refused)


def test_who_is_in_the_middle_of_the_test_has_not_finished_it(
    tmp_path: Path, test_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEEDBACK_CHAT_SCREENING__ITEMS", str(test_file))
    with FeedbackStore(tmp_path / "feedback.db") as store:
        items, lena = read_gold(test_file, LimitSettings()), store.add_rater("lena", consent="1").id
        for _ in range(6):
            store.add_choice(str(store.gold_question(lena, items, every=None)), lena, "a")
    told = call(tmp_path, "raters", "list").stdout
    assert "answered 6/20, not finished" in told and "passed" not in told


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FeedbackStore]:
    with FeedbackStore(tmp_path / "feedback.db") as opened:
        opened.add_rater(ANN, consent="1")
        yield opened


@pytest.fixture
def service(store: FeedbackStore, tmp_path: Path) -> ChatService:
    items = tmp_path / "test.jsonl"
    items.write_text(json.dumps(QUESTION))
    return fake_service(store, FakeEngine(), tmp_path, screening={"items": items})


def test_a_vote_is_stored_though_the_result_of_the_test_cannot_be(
    service: ChatService, store: FeedbackStore, tmp_path: Path
) -> None:
    with sqlite3.connect(tmp_path / "feedback.db") as broken:
        broken.execute(
            "CREATE TRIGGER broken BEFORE UPDATE OF passed ON raters"
            " BEGIN SELECT RAISE(ABORT, 'broken'); END"
        )
    _, shown = service.next_comparison(ANN)
    right = next(one.label for one in shown.messages if one.content == "right")
    choice, _ = service.choose(ANN, shown.id, right)
    assert store.choice_of(shown.id, ANN) == choice and store.has_passed(ANN) is None
    with sqlite3.connect(tmp_path / "feedback.db") as mended:
        mended.execute("DROP TRIGGER broken")
    service.choose(ANN, shown.id, right)
    assert store.has_passed(ANN) is True


def test_who_counts_as_passed_by_a_key_is_not_asked_the_test(
    service: ChatService, store: FeedbackStore
) -> None:
    _, shown = service.next_comparison(ANN)
    right = next(one.label for one in shown.messages if one.content == "right")
    service.choose(ANN, shown.id, right)
    store.make_key("lena", role="labeler", passed=(ANN, "key-lena"), by="operator")
    assert service.next_comparison("key-lena") is None
    store.add_rater("max", consent="1")
    assert service.next_comparison("max") is not None
