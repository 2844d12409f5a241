"""Sentences of the server: each language has all of them, and whoever is refused gets one."""

import ast
import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import chat_app
import feedback_store
from chat_app import errors
from chat_app.api.languages import LANGUAGES, STATIC
from chat_app.handlers.compare import Compare
from chat_app.handlers.my_votes import MyVotes
from chat_app.handlers.progress import Progress
from chat_app.handlers.talk import Talk
from chat_app.handlers.views import error_text, said
from chat_app.handlers.votes import Votes
from chat_app.pages.events import answer_as_json
from chat_app.service.chat import ChatService
from feedback_store import errors as store_errors
from feedback_store.errors import Sentence, StoreUnavailableError, say, text_of
from feedback_store.store import FeedbackStore
from tests.chat_app.fakes import FakeEngine, fake_service
from tests.chat_app.pages.test_words import FORM, GAP, NEEDED, SAYS_ITS_COUNT, SERVER

APP, STORE = (Path(str(package.__file__)).parent for package in (chat_app, feedback_store))
OTHERS = [lang for lang in LANGUAGES if lang != "en"]
ANN = "ann"


def trees() -> Iterator[ast.AST]:
    """The files that make sentences."""
    for folder in (APP, STORE):
        for file in folder.rglob("*.py"):
            text = file.read_text(encoding="utf-8")
            if re.search(r"from feedback_store\.errors import [^)]*?\bsay\b", text):
                yield ast.parse(text)


def templates() -> set[str]:
    """The templates of all sentences; each is written where it is made."""
    found = set()
    for tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "say":
                template = node.args[0]
                assert isinstance(template, ast.Constant), ast.unparse(node)
                found.add(str(template.value))
    return found


def words(lang: str) -> dict[str, str]:
    return dict(json.loads((STATIC / "words" / lang / SERVER).read_text(encoding="utf-8")))


@pytest.mark.parametrize("lang", OTHERS)
def test_a_language_has_each_sentence_with_the_same_gaps_and_its_forms(lang: str) -> None:
    own, wanted = words(lang), templates()
    assert len(wanted) > 100 and {FORM.sub("", key) for key in own} == wanted
    for template in wanted:
        gaps = set(GAP.findall(template))
        if "n" in gaps:
            assert {f"{template}.{form}" for form in NEEDED[lang]} <= set(own), template
        else:
            assert template in own
        for key in (key for key in own if FORM.sub("", key) == template):
            form = FORM.search(key)
            may_miss = {"n"} if form and form[1] not in SAYS_ITS_COUNT else set()
            assert gaps - may_miss <= set(GAP.findall(own[key])) <= gaps, key
            assert own[key].strip() == own[key] != template


def test_english_says_only_what_the_pages_call_otherwise() -> None:
    for template, text in words("en").items():
        assert (
            template in templates()
            and text.replace("round", "cycle").replace("Round", "Cycle") == template
        )


# Whoever is refused

RAISED = {
    name
    for module in (errors, store_errors)
    for name, kind in vars(module).items()
    if isinstance(kind, type) and issubclass(kind, Exception) and name != "StartError"
}
VISITORS = [
    *(APP / "handlers").glob("*.py"),
    *(APP / "handlers" / "progress").glob("*.py"),
    *(APP / "engine").glob("*.py"),
    *(APP / "service" / f"{name}.py" for name in ("chat", "limits", "rates", "my_data", "voting")),
    *(STORE / "feedback").glob("*.py"),
    STORE / "raters" / "accounts.py",
    APP / "pages" / "follow.py",
]
# What no page asks for: settings of a request, other kinds of requests, other callers.
OF_THE_API = {
    *(
        "_parent_of",
        "check_sampling",
        "check_messages",
        "store_message",
        "checked_prompt",
        "add_conversation",
    ),
    *("work", "demonstrate", "said", "search", "add_candidates"),
    *("named_by_client", "_with_begun"),
}


@pytest.mark.parametrize("file", VISITORS, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_no_error_that_a_visitor_can_meet_has_a_text_without_a_template(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    texts = {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.JoinedStr | ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for node in ast.walk(function):
            call = node.exc if isinstance(node, ast.Raise) else None
            if not isinstance(call, ast.Call) or getattr(call.func, "id", "") not in RAISED:
                continue
            plain = isinstance(call.args[0], ast.JoinedStr | ast.Constant)
            plain |= isinstance(call.args[0], ast.Name) and call.args[0].id in texts
            assert not plain or function.name in OF_THE_API, ast.unparse(node)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ChatService]:
    with FeedbackStore(tmp_path / "feedback.db") as store:
        yield fake_service(store, FakeEngine(), tmp_path, progress="operator")


Refused = Callable[[ChatService], Any]
REFUSALS: dict[str, Refused] = {
    "too long": lambda s: Talk(s).send(ANN, "a" * 100_000, below=None, newest=None),
    "empty": lambda s: Talk(s).send(ANN, " ", below=None, newest=None),
    "half a character": lambda s: Talk(s).send(ANN, "a\ud83d", below=None, newest=None),
    "no such message": lambda s: Talk(s).edit(ANN, "none", "Hi"),
    "not loaded": lambda s: (
        setattr(s, "ready", False),
        Talk(s).send(ANN, "Hi", below=None, newest=None),
    )[1],
    "no such vote": lambda s: MyVotes(s).undo(ANN, "thumb", "none"),
    "no such kind": lambda s: MyVotes(s).undo(ANN, "smile", "none"),
    "too many words": lambda s: MyVotes(s).found(ANN, query="a " * 100),
    "no consent": lambda s: Votes(s).thumb(ANN, "none", 1),
    "too many replies": lambda s: Compare(s).ask(ANN, "Hi", 99, None),
    "no such opponent": lambda s: Compare(s).ask(ANN, "Hi", 2, "nobody"),
    "closed": lambda s: Progress(s).view(operator=False),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_a_visitor_who_is_refused_gets_a_sentence(service: ChatService, what: str) -> None:
    async def refused() -> None:
        made = REFUSALS[what](service)
        if isinstance(made, Awaitable):
            await made

    with pytest.raises((errors.ChatAppError, store_errors.FeedbackStoreError)) as caught:
        asyncio.run(refused())
    answer = json.loads(answer_as_json(caught.value))
    assert answer["sentence"]["template"] in templates()
    assert answer["sentence"]["text"] == answer["problem"]


def test_a_full_disk_and_a_fault_are_sentences_too() -> None:
    for error in (StoreUnavailableError("/home/x is full"), ZeroDivisionError("secret")):
        assert isinstance(error_text(error), Sentence)


# What a sentence is


def test_a_sentence_is_its_english_text_and_knows_its_parts() -> None:
    inner = say("{n} votes", one="{n} vote", n=1)
    outer = say("too many {what}; {share} of {all}", what=inner, share=0.5, all=3)
    assert outer == "too many 1 vote; 0.5 of 3"
    found = said(outer)
    assert (found.text, found.template) == (str(outer), "too many {what}; {share} of {all}")
    assert found.values == {"what": said(inner), "share": 0.5, "all": 3}
    assert (said("recorded").template, said("recorded").text) == ("", "recorded")


def test_an_adapter_that_was_served_is_called_by_its_version() -> None:
    found = said(
        say("between {a} and {b}", a="policy-000001", b="policy-000002"), {"policy-000001": 2}
    )
    assert found.values["a"].values == {"number": 2} and found.values["b"] == "policy-000002"


def test_an_error_keeps_its_sentence_and_any_other_its_text() -> None:
    assert isinstance(text_of(errors.TooManyError(say("too much"), seconds=2)), Sentence)
    assert text_of(ValueError("a", "b")) == "('a', 'b')" and text_of(ValueError()) == ""
