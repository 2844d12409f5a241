"""Gold questions from the operator's file to the rater: file, service, API, page handlers."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from chat_app.errors import ConsentNeededError, InvalidRequestError, NotFoundError
from chat_app.handlers.votes import Votes
from chat_app.identity import Identity
from chat_app.server import create_app
from chat_app.service.chat import ChatService
from chat_app.service.gold_file import read_gold
from chat_app.settings import LimitSettings, Settings
from feedback_store.records import CandidateReply
from feedback_store.store import FeedbackStore
from tests.chat_app.fakes import FakeEngine, fake_service
from tests.chat_app.reading import receipts_of

ANN = "ann"
SAID = {"better": "It is Rome.", "worse": "Go away."}
LINES: tuple[dict[str, Any], ...] = (
    {"prompt": "Capital of Italy?", **SAID},
    {"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]}
    | {"better": "Hello!", "worse": "No."},
)


def gold_file(folder: Path, *lines: Any) -> Path:
    path = folder / "gold.jsonl"
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ChatService]:
    """A service that gives a test after every second side-by-side."""
    with FeedbackStore(tmp_path / "feedback.db") as store:
        store.add_rater(ANN, consent="1")
        options = {"gold_items": gold_file(tmp_path, *LINES), "gold_every": 2}
        yield fake_service(store, FakeEngine(), tmp_path, **options)


def judge(service: ChatService, times: int, rater: str = ANN) -> None:
    """Let the rater make choices in conversations of their own."""
    store = service.store
    for _ in range(times):
        asked = service.ask(rater, "own question")
        replies = [CandidateReply("x"), CandidateReply("y")]
        shown, _ = store.add_candidates(asked.id, replies, rater_id=rater)
        store.add_choice(shown, rater, "a", idempotency_key=shown)


# The file


def test_a_file_of_items_is_read_with_prompts_and_conversations(tmp_path: Path) -> None:
    first, second = read_gold(gold_file(tmp_path, LINES[0], "", LINES[1]), LimitSettings())
    assert first.prompt == ({"role": "user", "content": "Capital of Italy?"},)
    assert (first.better, first.worse) == ("It is Rome.", "Go away.")
    assert [message["role"] for message in second.prompt] == ["system", "user"]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "Invalid JSON"),
        ([], "object"),
        ({"prompt": "x", "better": "y"}, "worse: Field required"),
        ({"prompt": "x", "better": 3, "worse": "y"}, "better: Input should be a valid string"),
        ({"prompt": "x", "answer": "z", **SAID}, "answer: Extra inputs"),
        ({**SAID}, "either prompt or messages"),
        ({"prompt": "x", "messages": [{"role": "user", "content": "x"}], **SAID}, "not both"),
        ({"messages": [{"role": "assistant", "content": "x"}], **SAID}, "end with a user message"),
        ({"messages": [], **SAID}, "0 messages"),
        ({"prompt": " ", **SAID}, "empty"),
        ({"prompt": "x", "better": "y", "worse": " "}, "empty"),
        ({"prompt": "x", "better": "yes.", "worse": " YES."}, "the same"),
        ({"prompt": "x" * 8_001, **SAID}, "8001 characters"),
        ({"prompt": "capital  of ITALY?", **SAID}, "earlier line"),
    ],
)
def test_a_wrong_line_is_named_with_its_file_in_one_line(
    tmp_path: Path, line: Any, says: str
) -> None:
    path = gold_file(tmp_path, LINES[0], line)
    with pytest.raises(InvalidRequestError) as refused:
        read_gold(path, LimitSettings())
    said = str(refused.value)
    assert said.startswith(f"gold_items {path}, line 2: ") and says in said
    assert "\n" not in said


def test_the_option_that_names_the_file_is_named(tmp_path: Path) -> None:
    path = gold_file(tmp_path, LINES[0], "{")
    with (
        FeedbackStore(tmp_path / "feedback.db") as store,
        pytest.raises(InvalidRequestError, match=f"^screening.items {path}, line 2: "),
    ):
        fake_service(store, FakeEngine(), tmp_path, screening={"items": path})


def test_only_a_line_feed_ends_a_line_and_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    prompt = "one\u2028two\x85three"
    line = json.dumps({"prompt": prompt, **SAID}, ensure_ascii=False)
    path = tmp_path / "gold.jsonl"
    path.write_bytes(("\ufeff" + json.dumps(LINES[1]) + "\r\n" + line + "\n").encode())
    first, second = read_gold(path, LimitSettings())
    assert first.better == "Hello!"
    assert second.prompt[0]["content"] == prompt


def test_a_file_that_is_missing_empty_or_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "none.jsonl", tmp_path / "binary", gold_file(tmp_path, "")):
        with pytest.raises(InvalidRequestError, match=f"gold_items {path} "):
            read_gold(path, LimitSettings())


def test_the_options_are_off_by_default(tmp_path: Path) -> None:
    settings = Settings.model_validate({"data": tmp_path})
    assert (settings.gold_items, settings.gold_every) == (None, 20)


# The service


def test_without_a_file_or_with_0_there_are_no_gold_questions(tmp_path: Path) -> None:
    path = gold_file(tmp_path, *LINES)
    for options in ({}, {"gold_items": path, "gold_every": 0}):
        with FeedbackStore(tmp_path / "feedback.db") as store:
            store.add_rater(ANN, consent="1")
            service = fake_service(store, FakeEngine(), tmp_path, **options)
            judge(service, 5)
            assert service.next_comparison(ANN) is None


def test_the_page_asks_after_every_nth_vote_and_the_answer_is_only_a_test(
    service: ChatService,
) -> None:
    votes = Votes(service)
    judge(service, 1)
    assert votes.asked(ANN) is None
    judge(service, 1)
    asked = votes.asked(ANN)
    assert asked is not None and votes.asked(ANN) == asked
    better = {"Capital of Italy?": "It is Rome.", "Hi": "Hello!"}[asked.prompt[-1][1]]
    assert better in (asked.a, asked.b)
    votes.answer(ANN, asked.id, "a" if asked.a == better else "b")
    assert votes.asked(ANN) is None
    service.store.refresh_comparisons()
    assert len(service.store.comparisons()) == 1  # both own side-by-sides are of one prompt
    [standing] = service.store.raters()
    assert (standing.gold_right, standing.gold_total) == (1, 1)
    assert "test" in receipts_of(service, ANN)[0].became
    assert {c.title for c in service.conversations(ANN)} == {"own question"}


def test_a_rater_without_consent_or_another_rater_cannot_answer(service: ChatService) -> None:
    votes = Votes(service)
    judge(service, 2)
    asked = votes.asked(ANN)
    assert asked is not None
    service.store.add_rater("bob", consent="1")
    with pytest.raises(NotFoundError, match="among your candidates"):
        votes.answer("bob", asked.id, "a")
    service.store.set_consent(ANN, None)
    with pytest.raises(ConsentNeededError, match="agree first"):
        votes.answer(ANN, asked.id, "a")
    assert len(service.store.choices()) == 2


def test_a_gold_question_belongs_to_no_conversation_of_the_page(service: ChatService) -> None:
    votes = Votes(service)
    judge(service, 2)
    asked = votes.asked(ANN)
    assert asked is not None
    for given in (True, False):
        service.store.set_consent(ANN, "1" if given else None)
        with pytest.raises(NotFoundError, match="no conversation"):
            votes.choose(ANN, asked.id, "a")
    assert asked.id not in [choice.candidates_id for choice in service.store.choices()]


def test_the_last_answer_counts_and_a_doubled_click_is_one_answer(
    service: ChatService,
) -> None:
    votes = Votes(service)
    judge(service, 2)
    asked = votes.asked(ANN)
    assert asked is not None
    for choice in ("a", "b", "b", "a"):
        votes.answer(ANN, asked.id, choice)
        found = [vote for vote in service.store.choices() if vote.candidates_id == asked.id]
        assert [vote.choice for vote in found] == [choice]
    assert len(service.receipts(ANN)) == 2 + 3


# The API


def test_a_program_asks_for_the_next_comparison_and_answers_it(
    service: ChatService, tmp_path: Path
) -> None:
    app = create_app(service, Identity(tmp_path / "secrets"), pages=False)
    client = TestClient(app, base_url="http://127.0.0.1", headers={"Authorization": "Bearer alice"})
    assert client.get("/v1/comparisons/next").json() == {"comparison": None}
    [rater] = [one.id for one in service.store.raters() if one.id != ANN]
    judge(service, 2, rater)
    found = client.get("/v1/comparisons/next").json()["comparison"]
    assert found.keys() == {"candidates_id", "messages", "replies"}
    assert found["messages"][-1]["role"] == "user"
    assert [reply["label"] for reply in found["replies"]] == ["a", "b"]
    assert client.get("/v1/comparisons/next").json()["comparison"] == found
    body = {"candidates_id": found["candidates_id"], "choice": "tie", "idempotency_key": "k"}
    assert client.post("/v1/choices", json=body).json()["adapters"] == {"a": None, "b": None}
    assert client.get("/v1/comparisons/next").json() == {"comparison": None}
    service.store.refresh_comparisons()
    [receipt] = [
        event
        for event in client.get("/v1/feedback/me").json()["events"]
        if event["candidates_id"] == found["candidates_id"]
    ]
    assert receipt["comparisons"] == [] and "test" in receipt["left_out"]
