"""What is promised to others: commands, routes, exit codes and files.

The tables are written by hand, so that nobody changes what is public without changing them, too.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
import typer

import chat_app.errors
import feedback_store.errors
import rlhf_core.errors
from chat_app.commands.main import app, exit_code, main
from chat_app.identity import Identity
from chat_app.server import create_app
from feedback_store.records import CandidateReply
from feedback_store.store import FeedbackStore
from rlhf_core.cycle.signing import adapter_key
from tests.chat_app.fakes import FakeEngine, fake_service

# Arguments in capitals, as the help shows them; --help goes without saying.
COMMANDS = {
    "adapters add": "FOLDER --data --config --json",
    "adapters anchor": "NAME --data --config --json",
    "adapters canary": "NAME --data --config --force --json",
    "adapters list": "--data --config --json",
    "adapters promote": "NAME --data --config --force --json",
    "adapters rollback": "--data --config --json",
    "adapters sign": "NAMES --data --config --json",
    "adapters stop-trial": "--data --config --json",
    "adapters verify": "NAMES --data --config --json",
    "backup": "FOLDER --data --config --json",
    "cycle": "--data --model --profile --quantization --config --cancel --dry-run "
    "--evidence --out --json",
    "demo": "--data --host --port --model --profile --quantization --config",
    "doctor": "--data --model --profile --quantization --config --json",
    "evaluate": "--adapter --against --requests --seed --world --taste --prompts "
    "--probes --data --model --profile --quantization --config --json",
    "evidence": "FILE --data --model --profile --quantization --config --json",
    "export": "FILE --force --format --split --source --adapter --with-metadata "
    "--without --hub --licence --language --data --config --json",
    "fetch": "NAME --data --config",
    "forget": "RATER --as-in --yes --data --config --json",
    "import": "FILE --format --columns --name --create --data --config --json",
    "judge": "--endpoint --model --principles --pairs --limit --no-probes --key-variable "
    "--send-texts --per-minute --report --data --config --json",
    "keys list": "--data --config --json",
    "keys make": "NAME --role --passed --gateway --data --config --json",
    "keys revoke": "NAME --data --config --json",
    "leave-out": "KIND ITEM --reason --data --config",
    "plan": "--data --model --profile --quantization --config --json",
    "promote": "NAME --data --config --force --json",
    "raters assess": "--data --config --json",
    "raters list": "--data --config --json",
    "raters quarantine": "RATER --reason --data --config --json",
    "raters release": "RATER --data --config --json",
    "raters screen": "FILE --share --data --config --json",
    "reproduce": "--profile --claims --seeds --out --json",
    "restore": "FOLDER --data --json",
    "rollback": "--data --config --json",
    "search": "WORDS --limit --data --config --json",
    "serve": "--data --host --port --model --profile --quantization --engine --vllm-url --config",
    "simulate": "--url --visitors --events --seed --kinds --rank --rankers --at-once --remote "
    "--world --taste --prompts --topic --subjects --wordings --json",
    "starter build": "FOLDER --size --steps --seed",
    "starter check": "FOLDER --json",
    "status": "--data --config --json",
    "sweep": "--older-than --dry-run --data --config --json",
    "tail": "--kind --since --no-follow --text --data --config --json",
    "take-in": "KIND ITEM --data --config",
}
CHOICES = {
    "starter build --size": "nano micro mid",
    "cycle --profile": "auto starter cpu gpu",
    "cycle --quantization": "auto nf4 int8 none",
    "demo --profile": "auto starter cpu gpu",
    "demo --quantization": "auto nf4 int8 none",
    "doctor --profile": "auto starter cpu gpu",
    "doctor --quantization": "auto nf4 int8 none",
    "evaluate --profile": "auto starter cpu gpu",
    "evaluate --quantization": "auto nf4 int8 none",
    "evaluate --world": "starter checkable",
    "evidence --profile": "auto starter cpu gpu",
    "evidence --quantization": "auto nf4 int8 none",
    "export --format": "events preference preferences unpaired sft prompts",
    "export --split": "all train held_out held_out_raters",
    "import --format": "events hh oasst ultrafeedback arena pandalm open-webui table",
    "judge --pairs": "all judged unjudged",
    "keys make --role": "visitor labeler operator",
    "leave-out KIND": "conversation vote",
    "plan --profile": "auto starter cpu gpu",
    "plan --quantization": "auto nf4 int8 none",
    "reproduce --profile": "ci cpu gpu",
    "serve --profile": "auto starter cpu gpu",
    "serve --quantization": "auto nf4 int8 none",
    "serve --engine": "local vllm",
    "simulate --world": "starter checkable",
    "take-in KIND": "conversation vote",
}
ROUTES = {
    "DELETE /v1/me",
    "GET /healthz",
    "GET /metrics",
    "GET /readyz",
    "GET /v1/comparisons/next",
    "GET /v1/feedback/{rater}",
    "GET /v1/me",
    "GET /v1/models",
    "GET /v1/models/{name}",
    "GET /v1/operate/status",
    "POST /v1/candidates",
    "POST /v1/chat/completions",
    "POST /v1/choices",
    "POST /v1/consent",
    "POST /v1/demonstrations",
    "POST /v1/feedback",
    "POST /v1/operate/canary",
    "POST /v1/operate/cancel",
    "POST /v1/operate/cycle",
    "POST /v1/operate/promote",
    "POST /v1/operate/rollback",
    "POST /v1/operate/stop-trial",
    "POST /v1/rankings",
    "POST /v1/retries",
}
SAMPLING = "temperature top_p max_tokens max_completion_tokens"
NOT_SUPPORTED = "tools tool_choice functions function_call response_format logprobs top_logprobs "
NOT_SUPPORTED += "logit_bias frequency_penalty presence_penalty modalities audio web_search_options"
BODIES = {
    "CandidatesIn": f"messages user n stop {SAMPLING}",
    "ChoiceIn": "candidates_id choice strength seconds tags comment idempotency_key",
    "CompletionIn": "model messages user stream stream_options seed n stop store metadata "
    f"retry_of {NOT_SUPPORTED} {SAMPLING}",
    "ConsentIn": "given",
    "DemonstrationIn": "content message_id messages idempotency_key",
    "EraseIn": "confirm",
    "FeedbackIn": "message_id client_message thumb tags comment idempotency_key",
    "PromoteIn": "adapter force",
    "RankingIn": "candidates_id order idempotency_key",
    "RetryIn": "message_id than_before idempotency_key",
}
# 0 is done; whatever is not named here is 1, failed
EXIT_CODES = {
    2: {"InvalidRequestError", "RefusedQuestionError", "TooLongError"},  # wrong usage
    3: {
        "BehindError",
        "ConflictError",
        "ConsentNeededError",
        "CycleEndedError",
        "CycleInProgressError",
        "CycleRunsError",
        "RefusedError",
    },  # refused
}
COLUMNS = {
    "preference": "prompt chosen rejected",
    "preference --with-metadata": "prompt chosen rejected "
    "id created_at rater rater_kind source split weight strength ranking arm propensity",
    "prompts": "prompt",
    "sft": "messages",
    "unpaired": "prompt completion label",
}
# of every event, and of each kind
EVENT = "event id rater_id idempotency_key created_at superseded_at prompt_hash rater messages "
EVENT += "conversation owner candidates shown_to"
EVENTS = {
    "choice": "candidates_id choice strength seconds tags comment",
    "demonstration": "message_id prompt content text_hash",
    "ranking": "candidates_id order",
    "retry": "message_id retry_of than_before",
    "thumb": "message_id value tags comment",
}
# of a service; the end-to-end test knows those of a cycle
FILES = {
    "feedback.db",
    "feedback.db.lock",
    "secrets/adapter-key",
    "secrets/key",
    "secrets/operator-token",
}


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for name, child in getattr(command, "commands", {}).items():
        yield from leaves(child, (*path, name))
    if not hasattr(command, "commands"):
        yield " ".join(path), command


COMMAND_LINE = dict(leaves(typer.main.get_command(app)))


def word(parameter: Any) -> str:
    """An option as it is typed, an argument in capitals."""
    (name,) = parameter.opts
    assert not parameter.secondary_opts, "an option has one name"
    return str(name if name.startswith("-") else name.upper())


def test_the_commands_have_these_arguments_and_options() -> None:
    found = {name: " ".join(map(word, c.params)) for name, c in COMMAND_LINE.items()}
    assert found == COMMANDS


def test_the_options_that_take_one_of_a_few_words_take_these() -> None:
    found = {
        f"{name} {word(parameter)}": " ".join(choices)
        for name, command in COMMAND_LINE.items()
        for parameter in command.params
        if (choices := getattr(parameter.type_descriptor, "choices", None))
    }
    assert found == CHOICES


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Any]:
    """The application without its pages, on an engine without a model."""
    with FeedbackStore(tmp_path / "feedback.db") as store:
        service = fake_service(store, FakeEngine(), tmp_path)
        yield create_app(service, Identity(tmp_path / "secrets"), pages=False)


def test_the_service_has_these_routes_with_these_bodies(web: Any) -> None:
    described = web.openapi()
    found = {f"{m.upper()} {path}" for path, by in described["paths"].items() for m in by}
    assert found == ROUTES
    bodies = {
        name: set(schema["properties"])
        for name, schema in described["components"]["schemas"].items()
        if name.endswith("In") and name not in ("MessageIn", "PartIn")
    }
    assert bodies == {name: set(fields.split()) for name, fields in BODIES.items()}


def test_errors_have_these_exit_codes() -> None:
    found: dict[int, set[str]] = {}
    for module in (chat_app.errors, feedback_store.errors, rlhf_core.errors):
        for name, error in vars(module).items():
            if isinstance(error, type) and issubclass(error, Exception):
                found.setdefault(exit_code(error("why")), set()).add(name)
    found.pop(1)
    assert found == EXIT_CODES


def ends(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> int:
    """The exit code of a command."""
    monkeypatch.setattr(sys, "argv", ["feedback-chat", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


def test_commands_end_with_these_exit_codes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    missing, empty = tmp_path / "missing", tmp_path / "empty"
    FeedbackStore(empty / "feedback.db").close()
    assert ends(monkeypatch, "--help") == 0
    assert ends(monkeypatch, "promote", "policy-000009", "--data", empty) == 1
    assert ends(monkeypatch, "no-such-command") == 2
    assert ends(monkeypatch, "status", "--data", missing) == 2
    assert ends(monkeypatch, "cycle", "--data", empty) == 3


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory with one event of each kind."""
    with FeedbackStore(tmp_path / "data" / "feedback.db") as store:
        rater = store.add_rater("ann", consent="1").id
        conversation = store.add_conversation(rater).id
        asked = store.add_message(conversation, "user", "hello")
        for labels in ("ab", "abc"):
            replies = [CandidateReply(f"{each} of {labels}") for each in labels]
            shown, _ = store.add_candidates(asked.id, replies, rater_id=rater)
            if labels == "ab":
                store.add_choice(shown, rater, "a", idempotency_key="1")
            else:
                store.add_ranking(shown, rater, [["a"], ["b", "c"]], idempotency_key="2")
        first = store.add_message(conversation, "assistant", "no", parent_id=asked.id)
        store.add_message(conversation, "assistant", "yes", parent_id=asked.id, retry_of=first.id)
        store.add_thumb(first.id, rater, -1, idempotency_key="3")
        store.add_demonstration(rater, "hi", message_id=first.id, idempotency_key="4")
    return tmp_path / "data"


def test_data_sets_have_these_columns(
    monkeypatch: pytest.MonkeyPatch, data: Path, tmp_path: Path
) -> None:
    found = {}
    for words in COLUMNS:
        file = tmp_path / f"{words.replace(' ', '')}.parquet"
        take = ["--format", *words.split(), "--split", "all", "--data", data]
        assert ends(monkeypatch, "export", file, *take) == 0
        found[words] = " ".join(pyarrow.parquet.read_schema(file).names)
    assert found == COLUMNS


def test_raw_events_have_these_fields(
    monkeypatch: pytest.MonkeyPatch, data: Path, tmp_path: Path
) -> None:
    file = tmp_path / "events.jsonl"
    assert ends(monkeypatch, "export", file, "--data", data) == 0
    events = [json.loads(line) for line in file.read_text().splitlines()]
    found = {event["event"]: set(event) for event in events}
    assert found == {kind: {*EVENT.split(), *own.split()} for kind, own in EVENTS.items()}


def test_the_data_directory_holds_these_files(monkeypatch: pytest.MonkeyPatch, data: Path) -> None:
    Identity(data / "secrets")
    adapter_key(data)
    files = (str(path.relative_to(data)) for path in data.rglob("*") if path.is_file())
    assert {*files} == FILES
