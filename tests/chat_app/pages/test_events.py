"""Events over a real Gradio: what is refused, and in which form a page gets an answer."""

import asyncio
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastapi
import gradio as gr
import pytest
from fastapi.testclient import TestClient
from pydantic import BaseModel

from chat_app.errors import BehindError
from chat_app.handlers.views import UNEXPECTED
from chat_app.identity import Identity
from chat_app.pages.events import UNREADABLE, add_events, answer_as_json, visitor
from chat_app.pages.shared import BLOCKS, attach
from chat_app.server import create_app
from feedback_store.errors import StoreUnavailableError, say
from feedback_store.store import FeedbackStore
from tests.chat_app.fakes import FakeEngine, fake_service
from tests.chat_app.pages.mounting import made

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True, slots=True)
class Found:
    """A result with what results have."""

    who: str
    order: tuple[tuple[str, ...], ...]
    note: str | None = None


class Whole(BaseModel):
    """Something that checks its own values."""

    number: int


class Events:
    """A page's functions; `seen` is what reached them."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def trial_find(
        self,
        name: str,
        count: int,
        order: list[list[str]],
        note: str | None,
        seconds: float | None,
        request: gr.Request,
    ) -> Found:
        """Give back what came."""
        self.seen.append((name, count, order, note, seconds))
        return Found(visitor(request), tuple(tuple(group) for group in order), note)

    def trial_filter(self, wanted: dict[str, str | None], request: gr.Request) -> int:
        """Count what came."""
        self.seen.append(wanted)
        return len(wanted)

    async def trial_later(self, sure: bool, request: gr.Request) -> bool:
        """Give back what came, later."""
        await asyncio.sleep(0)
        self.seen.append(sure)
        return sure

    def trial_fail(self, how: str, request: gr.Request) -> None:
        """Fail."""
        if how == "behind":
            raise BehindError(say("This conversation went on in another tab."))
        if how == "store":
            raise StoreUnavailableError("/home/someone/feedback.db is locked")
        if how == "within":
            Whole.model_validate({"number": "a secret"})
        raise ZeroDivisionError("details of the server")

    async def trial_fail_later(self, request: gr.Request) -> None:
        """Fail, later."""
        raise BehindError(say("This conversation went on in another tab."))


@dataclass(frozen=True)
class Page:
    """A server with these events, and what a browser does with it."""

    client: TestClient
    events: Events

    def call(self, name: str, *data: Any) -> Any:
        """The answer to a call."""
        headers, body = {"content-type": "application/json"}, json.dumps({"data": data})
        answer = self.client.post(f"/gradio_api/run/{name}", content=body, headers=headers)
        assert answer.status_code == 200, answer.text
        [found] = answer.json()["data"]
        return found


def serve(events: Events) -> fastapi.FastAPI:
    """A server with the events, on which everybody is ann."""
    app = fastapi.FastAPI()
    with gr.Blocks(**BLOCKS) as blocks:
        add_events(
            [
                events.trial_find,
                events.trial_filter,
                events.trial_later,
                events.trial_fail,
                events.trial_fail_later,
            ]
        )
    attach(app, blocks, "/", user=lambda request: "ann", blocked=[])
    return app


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    events = Events()
    with TestClient(made(lambda: serve(events))) as client:
        yield Page(client, events)


GOOD = ("x", 1, [["a", "b"], ["c"]], None, 2.5)


def test_an_answer_is_the_result_as_json_and_knows_the_visitor(page: Page) -> None:
    order = [["a", "b"], ["c"]]
    assert page.call("trial_find", *GOOD) == {"ok": {"who": "ann", "order": order, "note": None}}
    assert page.call("trial_find", "", 0, [], "ü", 3)["ok"]["note"] == "ü"
    assert page.events.seen[-1] == ("", 0, [], "ü", 3)
    assert page.call("trial_later", True) == {"ok": True}


@pytest.mark.parametrize(
    ("place", "value"),
    [
        *((0, wrong) for wrong in (1, None, ["x"], {"path": "/etc/passwd"}, True, "half \ud83d")),
        *((1, wrong) for wrong in ("1", 1.0, 1.5, True, None, [1])),
        *((2, wrong) for wrong in ("ab", [1], ["a"], [["a", None]], [["\udc00"]], {}, None)),
        *((3, wrong) for wrong in (1, ["x"], False)),
        *((4, wrong) for wrong in ("1", True, [1.0])),
    ],
)
def test_an_argument_of_another_type_is_refused_in_one_sentence_and_goes_no_further(
    page: Page, caplog: pytest.LogCaptureFixture, place: int, value: Any
) -> None:
    seen = list(page.events.seen)
    answer = page.call("trial_find", *GOOD[:place], value, *GOOD[place + 1 :])
    assert (answer["problem"], answer["kind"]) == (UNREADABLE, "InvalidRequestError")
    assert page.events.seen == seen
    assert caplog.records == [], "anybody can send it, so it is no matter for the log"


@pytest.mark.parametrize("value", [{"a": 1}, {"a": "half \ud83d"}, ["a"], "a"])
def test_a_filter_of_other_types_is_refused_too(page: Page, value: Any) -> None:
    seen = list(page.events.seen)
    assert page.call("trial_filter", {"a": "b", "c": None}) == {"ok": 2}
    assert page.call("trial_filter", value)["problem"] == UNREADABLE
    assert page.events.seen == [*seen, {"a": "b", "c": None}]


def test_what_runs_later_refuses_wrong_types_too(page: Page) -> None:
    seen = list(page.events.seen)
    assert page.call("trial_later", 1)["problem"] == UNREADABLE
    assert page.events.seen == seen


def test_too_few_arguments_never_reach_the_function(page: Page) -> None:
    seen = list(page.events.seen)
    answer = page.client.post("/gradio_api/run/trial_find", json={"data": ["x"]})
    assert answer.status_code == 500 and answer.json() == {"error": None}
    assert page.events.seen == seen


def test_a_browser_cannot_say_who_it_is(page: Page) -> None:
    answer = page.call("trial_find", *GOOD, {"username": "bob"})
    assert answer["ok"]["who"] == "ann"


def test_a_problem_is_one_sentence_and_says_its_kind(page: Page) -> None:
    text = "This conversation went on in another tab."
    sentence = {"text": text, "template": text, "values": {}}
    behind = {"problem": text, "kind": "BehindError", "sentence": sentence}
    assert page.call("trial_fail", "behind") == page.call("trial_fail_later") == behind
    locked = page.call("trial_fail", "store")
    assert locked["kind"] == "StoreUnavailableError"
    assert "nothing was saved" in locked["problem"] and "/home" not in locked["problem"]


@pytest.mark.parametrize(
    ("how", "kind"), [("by zero", "ZeroDivisionError"), ("within", "ValidationError")]
)
def test_an_unexpected_error_is_one_general_sentence_and_one_entry_of_the_log(
    page: Page, caplog: pytest.LogCaptureFixture, how: str, kind: str
) -> None:
    assert page.call("trial_fail", how).items() >= {"problem": UNEXPECTED, "kind": kind}.items()
    [entry] = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert entry.exc_info is not None and entry.exc_info[0].__name__ == kind  # type: ignore[union-attr]


def test_an_answer_as_json_has_the_form_of_an_answer_to_a_call() -> None:
    found = Found("ann", (("1", 'ü"<'),))
    told = {"who": "ann", "order": [["1", 'ü"<']], "note": None}
    assert json.loads(answer_as_json(found)) == {"ok": told}
    behind = BehindError("There is no three.")
    problem = {"problem": "There is no three.", "kind": "BehindError"}
    assert json.loads(answer_as_json(behind)) == problem
    assert json.loads(answer_as_json(ZeroDivisionError("details")))["problem"] == UNEXPECTED
    assert "\n" not in answer_as_json(Found("a\nb", ())), "a line of an event ends there"


def test_no_event_is_described_to_anybody(page: Page) -> None:
    described = page.client.get("/gradio_api/info").json()
    assert described == {"named_endpoints": {}, "unnamed_endpoints": {}}


def test_names_of_events_are_unique_and_begin_with_their_pages_word(tmp_path: Path) -> None:
    with FeedbackStore(tmp_path / "feedback.db") as store:
        service = fake_service(store, FakeEngine(), tmp_path)
        app = made(lambda: create_app(service, Identity(tmp_path / "secrets")))
    apps = [getattr(route, "app", None) for route in app.routes]
    mounted = [one.blocks for one in apps if hasattr(one, "blocks")]
    assert len(mounted) == 2, "those of visitors, and the operator's"
    words = ("chat_", "compare_", "votes_", "progress_", "values_", "operate_")
    operators, visitors = ([str(fn.api_name) for fn in blocks.fns.values()] for blocks in mounted)
    assert len(set(operators)) == len(operators) and len(set(visitors)) == len(visitors) > 15
    both = {"progress_view", "values_view"}
    assert set(operators) & set(visitors) == both, "both may see the progress, and whose it is"
    assert [one for one in (*operators, *visitors) if not one.startswith(words)] == []


def test_a_name_that_is_taken_is_refused() -> None:
    def make() -> None:
        with gr.Blocks(**BLOCKS):
            add_events([Events().trial_find, Events().trial_find])

    with pytest.raises(ValueError, match="trial_find"):
        made(make)


def test_the_events_of_the_chat_are_those_that_its_script_calls() -> None:
    from chat_app.pages.chat_events import ChatEvents

    names = {name for name in vars(ChatEvents) if name.startswith("chat_")}
    scripts = (ROOT / "chat_app" / "pages" / "static" / "chat").glob("*.js")
    text = "\n".join(script.read_text(encoding="utf-8") for script in scripts)
    assert {name for name in names if f'"{name}"' not in text} <= {"chat_answer", "chat_asked"}
