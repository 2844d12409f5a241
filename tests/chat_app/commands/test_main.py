"""The command line: exit codes, one clear line for each error, what each command does."""

import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pytest
from filelock import FileLock

from chat_app.commands.main import error_text, exit_code, main
from chat_app.errors import InvalidRequestError, RefusedError
from feedback_store.errors import StoreUnavailableError
from feedback_store.records import Alarm, CandidateReply, ServedBase
from feedback_store.sqlite.database import SQLiteFile
from feedback_store.store import FeedbackStore
from rlhf_core.gate.probes.packs import KINDS
from tests.chat_app.cycles.receiving import receiving
from tests.chat_app.serving import publish_copy


class Done(NamedTuple):
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


class Command(Protocol):
    """Runs the command line in this process, so that torch is loaded once."""

    def __call__(self, *words: str | Path, **environment: str) -> Done: ...


@pytest.fixture
def command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Command]:
    before = signal.getsignal(signal.SIGTERM)

    def run(*words: str | Path, **environment: str) -> Done:
        with monkeypatch.context() as patch, pytest.raises(SystemExit) as end:
            patch.setattr(sys, "argv", ["feedback-chat", *map(str, words)])
            for name, value in environment.items():
                patch.setenv(name, value)
            main()
        return Done(int(end.value.code or 0), *capsys.readouterr())

    yield run
    signal.signal(signal.SIGTERM, before)


def one_line(done: Done, code: int) -> str:
    """The only line on stderr of a command that ended with this code."""
    assert done.returncode == code, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory with one rater, a chosen pair and a thumb."""
    path = tmp_path / "data"
    with FeedbackStore(path / "feedback.db") as store:
        rater = store.add_rater("rater-1", consent="1")
        asked = store.add_message(store.add_conversation(rater.id).id, "user", "Capital of Peru?")
        replies = [CandidateReply("Lima."), CandidateReply("Rome.")]
        shown, _ = store.add_candidates(asked.id, replies, rater_id=rater.id)
        store.add_choice(shown, rater.id, "a", idempotency_key="k1")
    return path


def newer(data: Path) -> None:
    """Give the database the schema number of a later version."""
    with SQLiteFile(data / "feedback.db", allow_old_sqlite=True).write() as db:
        table = next(name for name in db.table_names() if "migrations" in name)
        row = dict(next(iter(db[table].rows))) | {"name": "9999_from_the_future"}
        db[table].insert({name: value for name, value in row.items() if name != "id"})


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["bogus"], "No such command 'bogus'"),
        (["serve", "--prot", "1"], "--prot"),
        (["serve", "--port", "x"], "--port cannot be 'x'; give a whole number, 0 to 65535"),
        (["serve", "--quantization", "nf5"], "nf5"),
        (["status", "--config", "/none.toml"], "no configuration file /none.toml"),
        (["simulate", "--url", "http://example.org"], "another machine"),
        (["simulate", "--url", "http://[::1"], "not an http address"),
        (["simulate", "--kinds", "likes"], "likes"),
        (["simulate", "--world", "checkable", "--taste", "short"], "at-most-words:N"),
        (["simulate", "--world", "checkable", "--prompts", "/none.txt"], "/none.txt"),
        (["simulate", "--world", "checkable", "--topic", "capital"], "--topic"),
        (["simulate", "--taste", "json"], "--world checkable"),
        (["evaluate", "--prompts", "p.txt"], "--world checkable"),
        (["simulate", "--topic", "rivers"], "capital"),
        (["simulate", "--topic", "capital", "--subjects", "60"], "1 to 45"),
        (["simulate", "--topic", "sum", "--wordings", "9"], "1 to 4"),
        (["import", "/none.jsonl"], "/none.jsonl"),
        (
            ["reproduce", "--seeds", "9"],
            "--seeds cannot be '9'; give 1 to 3; see `feedback-chat rep",
        ),
        (["raters", "screen", "f", "--share", "75%"], "'75%'; give a number, 0.5 to 1; see"),
        (["judge", "--limit", "-1"], "--limit cannot be '-1'; give 0 or more; see"),
        (["simulate", "--seed", "1.5"], "--seed cannot be '1.5'; give a whole number; see"),
        (
            ["starter", "build", "x", "--size", "huge"],
            "--size: 'huge' is not one of 'nano', 'micro'",
        ),
        (["starter", "build", "x", "--steps", "0"], "see `feedback-chat starter build --help`"),
        (["serve", "--port"], "see `feedback-chat serve --help`"),
        (["keys", "bogus"], "see `feedback-chat keys --help`"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_two(
    command: Command, words: list[str], says: str
) -> None:
    assert says in one_line(command(*words), 2)


def test_a_wrong_option_is_named_wherever_it_was_set(command: Command, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[cycle]\nmin_comparisons = 'many'\n")
    said = one_line(command("status", "--data", tmp_path), 2)
    assert f"'cycle.min_comparisons' in {tmp_path / 'config.toml'}" in said
    (tmp_path / "config.toml").write_text("[cycle.policy]\nlearning_rat = 1e-4\n")
    said = one_line(command("status", "--data", tmp_path), 2)
    assert f"no option 'cycle.policy.learning_rat' in {tmp_path / 'config.toml'}" in said
    assert "did you mean 'cycle.policy.learning_rate'?" in said
    (tmp_path / "config.toml").unlink()
    said = one_line(command("status", FEEDBACK_CHAT_CYCLE__NOTHING_LIKE_IT="1"), 2)
    assert "'cycle.nothing_like_it'; docs/configuration.md" in said
    said = one_line(command("status", FEEDBACK_CHAT_PORT="70000"), 2)
    assert "'port'" in said and "70000" in said
    assert "cycle" in one_line(command("status", FEEDBACK_CHAT_CYCLE="{broken"), 2)
    assert "FEEDBACK_CHAT_PORT?" in one_line(command("status", FEEDBACK_CHAT_PROT="80"), 2)
    (tmp_path / "config.toml").write_text("port = = 1")
    assert "not valid TOML" in one_line(command("status", "--data", tmp_path), 2)
    (tmp_path / "config.toml").write_bytes("host = 'h\xe4'".encode("latin-1"))
    said = one_line(command("status", "--data", tmp_path), 2)
    assert "config.toml is not UTF-8 at byte 9 (0xe4)" in said


def test_a_port_in_use_is_one_line(command: Command, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        said = one_line(command("serve", "--data", tmp_path / "new", "--port", port), 1)
    assert f"127.0.0.1:{port}" in said and "--port" in said
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_a_host_that_is_not_this_machine_is_blamed_on_the_host(
    command: Command, tmp_path: Path, host: str
) -> None:
    said = one_line(command("serve", "--data", tmp_path, "--host", host, "--port", "0"), 1)
    assert f"{host}:0" in said and "another with --host" in said and "--port" not in said


def test_a_directory_that_is_no_model_says_what_it_lacks(
    command: Command, data: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    needed = ["config.json", "a tokenizer (tokenizer.json)", "weights (model.safetensors)"]
    for command_name in ("serve", "cycle"):
        said = one_line(command(command_name, "--data", data, "--model", folder), 1)
        assert f"it lacks {', '.join(needed)};" in said and "save_pretrained" in said
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_text("{}")
    said = one_line(command("serve", "--data", data, "--model", folder), 1)
    assert f"it lacks {needed[1]};" in said


def test_a_wrong_line_of_gold_questions_is_one_line_at_start(
    command: Command, tmp_path: Path
) -> None:
    path = tmp_path / "gold.jsonl"
    path.write_text('{"prompt": "Capital of Italy?", "better": "Rome."}\n')
    words = ["serve", "--data", tmp_path, "--port", "0"]
    said = one_line(command(*words, FEEDBACK_CHAT_GOLD_ITEMS=str(path)), 2)
    assert f"{path}, line 1: worse" in said


def test_an_unwritable_data_directory_is_one_line(command: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said = one_line(command("serve", "--data", tmp_path / "file" / "data"), 1)
    assert "cannot be written" in said and "--data" in said


def test_an_unknown_model_is_one_line_and_leaves_the_votes(command: Command, data: Path) -> None:
    words = ["--data", data, "--model", "nobody/nothing"]
    assert "nobody/nothing" in one_line(command("serve", "--port", "0", *words), 1)
    assert "nobody/nothing" in one_line(command("cycle", *words), 1)
    assert json.loads(command("status", "--data", data, "--json").stdout)["last_cycle"] is None


def test_a_model_that_cannot_be_used_is_one_line_before_anything_is_loaded(
    command: Command, data: Path, tmp_path: Path
) -> None:
    part, wheel, adapter = (tmp_path / n for n in ("a-00001-of-00002.gguf", "a.whl", "adapter"))
    wheel.touch()
    adapter.mkdir()
    stated = {"peft_type": "LORA", "base_model_name_or_path": "nobody/nothing"}
    (adapter / "adapter_config.json").write_text(json.dumps(stated))
    (adapter / "adapter_model.safetensors").touch()
    for model, says in (
        (tmp_path / "none.gguf", "No such file"),
        (part, "one part of a GGUF file"),
        (wheel, "is not a model; give a .gguf file"),
        ("smollm2", "`feedback-chat fetch smollm2 --data "),
        (adapter, "nobody/nothing"),
    ):
        for name in ("serve", "cycle"):
            assert says in one_line(command(name, "--data", data, "--model", model), 1)


def test_a_newer_database_is_refused_and_not_touched(command: Command, data: Path) -> None:
    newer(data)
    before = (data / "feedback.db").read_bytes()
    for words in (["serve", "--port", "0"], ["status"], ["cycle"]):
        assert "newer" in one_line(command(*words, "--data", data), 1)
    assert (data / "feedback.db").read_bytes() == before


def test_a_cycle_without_votes_is_refused(command: Command, tmp_path: Path) -> None:
    assert "no votes yet" in one_line(command("cycle", "--data", tmp_path / "none"), 2)
    assert not (tmp_path / "none").exists()
    with FeedbackStore(tmp_path / "feedback.db") as store:
        assert "no votes yet" in one_line(command("cycle", "--data", tmp_path), 3)
        chat = store.add_conversation(store.add_rater("ann", consent="1").id).id
        asked = store.add_message(chat, "user", "Capital of Peru?")
        reply = store.add_message(chat, "assistant", "Lima.", parent_id=asked.id, adapter="a")
        store.add_thumb(reply.id, "ann", 1)
    said = one_line(command("cycle", "--data", tmp_path), 3)
    assert f"1 thumbs in {tmp_path}, but no comparison of two replies; 20 comparisons are" in said


def test_a_cycle_of_another_model_than_the_server_answers_with_is_refused(
    command: Command, data: Path, tiny_model: Path
) -> None:
    with FeedbackStore(data / "feedback.db") as store:
        store.note_base(ServedBase(str(tiny_model), {}))
    said = one_line(command("cycle", "--data", data, "--model", "starter"), 3)
    assert f"add `--model {tiny_model}`" in said
    same = tiny_model.parent / "." / tiny_model.name
    assert "20 are needed" in one_line(command("cycle", "--data", data, "--model", same), 3)


def test_a_bad_file_of_probes_is_one_line_before_a_cycle_begins(
    command: Command, data: Path, tmp_path: Path
) -> None:
    path = tmp_path / "probes.jsonl"
    path.write_text('{"kind": "manners"}\n')
    (data / "config.toml").write_text(f'[cycle.gate]\nprobes = "{path}"\n')
    for words in (["cycle"], ["evaluate", "--requests", "20", "--probes"]):
        assert f"{path} line 1: kind 'manners' is unknown; use flattery" in one_line(
            command(*words, "--data", data), 1
        )
    with FeedbackStore(data / "feedback.db") as store:
        assert store.last_cycle() is None


@pytest.mark.slow
def test_evaluate_asks_the_gates_probes_of_any_two_adapters(command: Command, data: Path) -> None:
    words = ["evaluate", "--data", data, "--requests", "20", "--probes"]
    found = json.loads(command(*words, "--json").stdout)["probes"]
    assert set(found) == set(KINDS)
    assert all(one["lost"] == 0 and one["asked"] == 60 for one in found.values())
    assert " passed  flattery: " in command(*words).stdout


def test_without_a_model_every_command_takes_the_one_that_the_server_answered_with(
    command: Command, data: Path, tiny_model: Path
) -> None:
    with FeedbackStore(data / "feedback.db") as store:
        store.note_base(ServedBase(str(tiny_model), {}))
    assert "20 are needed" in one_line(command("cycle", "--data", data), 3)
    assert "has no gold judge" in one_line(command("evaluate", "--data", data), 2)
    planned = json.loads(command("plan", "--data", data, "--json").stdout)
    assert planned["model"]["name"] == str(tiny_model)
    checked = command("doctor", "--data", data).stdout
    assert f"model: {tiny_model} (none) loads on" in checked


def test_a_cycle_for_other_replies_than_the_server_gives_is_refused(
    command: Command, data: Path, tiny_model: Path
) -> None:
    with FeedbackStore(data / "feedback.db") as store:
        store.note_base(ServedBase(str(tiny_model), {"quantization": "none", "reply.tokens": 9}))
    said = one_line(command("cycle", "--data", data), 3)
    assert "answers with reply.tokens 9, and this command would use" in said
    said = one_line(command("cycle", "--data", data, "--quantization", "nf4"), 3)
    assert "answers with quantization 'none', and this command would use 'nf4'" in said
    said = one_line(command("evaluate", "--data", data, "--world", "checkable"), 3)
    assert "answers with reply.tokens 9, and this command would use" in said


def test_the_doctor_reports_a_model_that_is_not_there(command: Command, data: Path) -> None:
    said = command("doctor", "--data", data, "--model", "nobody/nothing").stdout
    for check in ("model", "plan"):
        assert f"FAIL  {check}: model 'nobody/nothing' is not a directory" in said


def test_a_second_cycle_is_refused_while_one_runs(command: Command, data: Path) -> None:
    with FeedbackStore(data / "feedback.db") as store:
        store.start_cycle({}, pid=os.getpid())
        said = one_line(command("cycle", "--data", data), 3)
        assert f"process {os.getpid()}" in said
        last = store.last_cycle()
    assert last is not None and (last.id, last.state) == (1, "running")


def test_status_gives_the_documented_document(command: Command, data: Path) -> None:
    with FeedbackStore(data / "feedback.db") as store:
        store.refresh_comparisons()
        cycle = store.start_cycle({}, pid=os.getpid())
        store.finish_cycle(cycle.id, state="rejected", reasons=["too few"], metrics={"kl": 3.5})
    facts = json.loads(command("status", "--data", data, "--json").stdout)
    names = "serving previous anchor forced trial last_trial counts next_cycle last_cycle alarms"
    assert set(facts) == {*names.split(), "said_by"}
    waits = "votes worth 1 of 160 comparisons (80 as set; more after 1 rejection in a row)"
    assert facts["next_cycle"] == {
        "by_itself": True,
        "due": False,
        "needed": 160,
        "new": 1.0,
        "rejections": 1,
        "waits_for": waits,
    }
    assert (facts["alarms"], facts["forced"], facts["last_trial"]) == ([], None, None)
    assert (facts["serving"], facts["previous"]) == ("policy-000000", None)
    assert facts["anchor"] == "policy-000000"
    assert set(facts["counts"]) == {
        "raters",
        "messages",
        "thumbs",
        "choices",
        "demonstrations",
        "comparisons",
        "unused_comparisons",
    }
    assert facts["counts"]["comparisons"] == 1
    last: dict[str, Any] = facts["last_cycle"]
    assert (last["state"], last["reasons"], last["metrics"]) == (
        "rejected",
        ["too few"],
        {"kl": 3.5},
    )
    assert last["seconds"] >= 0
    told = command("status", "--data", data).stdout
    assert "rejected" in told and f"next      waits for {waits}" in told
    told = command("status", "--data", data, FEEDBACK_CHAT_SCHEDULE__ENABLED="0").stdout
    assert "next      waits for an operator to start it; votes are worth 1 comparisons" in told


def test_status_shows_the_alarms_since_the_last_cycle_began(command: Command, data: Path) -> None:
    with FeedbackStore(data / "feedback.db") as store:
        cycle = store.start_cycle({}, pid=os.getpid())
        store.finish_cycle(cycle.id, state="promoted")
        far = Alarm("kl", "the KL is 35 nats a reply", 0.9, 0.8)
        store.raise_alarm(far, key="1", cycle_id=cycle.id)
        store.raise_alarm(Alarm("starved", "no votes for 14 days"), key="then")
    *_, kl, starved = command("status", "--data", data).stdout.splitlines()
    assert kl == "alarm     kl of cycle 1: the KL is 35 nats a reply"
    assert starved == "alarm     starved: no votes for 14 days"


def test_a_cycle_from_the_shell_sends_the_alarms_that_are_left_once(
    command: Command, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FeedbackStore(data / "feedback.db") as store:
        sleeper = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        store.start_cycle({}, pid=sleeper.pid)
        sleeper.kill()
        sleeper.communicate()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    told = []
    with receiving() as receiver:
        for _ in range(2):
            words = ["cycle", "--data", data, "--json"]
            done = command(*words, FEEDBACK_CHAT_ALERTS__WEBHOOK=receiver.url)
            facts = json.loads(done.stdout)
            assert (done.returncode, facts["state"]) == (3, "refused")
            told.append([(alarm["kind"], alarm["cycle"]) for alarm in facts["alarms"]])
    assert told == [[("failed", 1)], []]
    assert [(body["kind"], body["cycle"]) for body in receiver.got] == [("failed", 1)]


def test_commands_that_look_never_make_a_data_directory(command: Command, tmp_path: Path) -> None:
    for words in (["status"], ["adapters", "list"], ["export"], ["rollback"]):
        said = one_line(command(*words, "--data", tmp_path / "none"), 2)
        assert "no database" in said
    assert not (tmp_path / "none").exists()


def test_adapters_are_promoted_and_rolled_back(
    command: Command, data: Path, tiny_adapters: Path
) -> None:
    shutil.copytree(tiny_adapters, data / "adapters")
    with FeedbackStore(data / "feedback.db") as store:
        store.register_adapter("policy-000001", kind="policy", state="published")
        store.register_adapter("policy-000002", kind="policy", state="rejected")
    assert "a rollback is not possible" in one_line(command("rollback", "--data", data), 3)
    words = ["adapters", "promote", "--data", data]
    done = command(*words, "policy-000001", "--json")
    assert json.loads(done.stdout) == {"serving": "policy-000001", "previous": "policy-000000"}
    assert "rejected" in one_line(command(*words, "policy-000002"), 3)
    assert "policy-000009" in one_line(command(*words, "policy-000009"), 1)
    listed = json.loads(command("adapters", "list", "--data", data, "--json").stdout)
    assert [row["name"] for row in listed if row["serving"]] == ["policy-000001"]
    assert "serving policy-000000" in command("adapters", "rollback", "--data", data).stdout


@pytest.fixture
def rejected(data: Path, tiny_adapters: Path) -> Path:
    """The service's directory with policy-000002, which cycle 1 rejected for two reasons."""
    shutil.copytree(tiny_adapters, data / "adapters")
    with FeedbackStore(data / "feedback.db") as store:
        cycle = store.start_cycle({}, pid=os.getpid())
        store.register_adapter("policy-000002", kind="policy", state="rejected", cycle_id=cycle.id)
        store.finish_cycle(
            cycle.id,
            state="rejected",
            reasons=("win rate 49%", "18% of replies end in mid-sentence"),
            adapter="policy-000002",
        )
    return data


@pytest.mark.parametrize("group", [[], ["adapters"]])
def test_a_rejected_adapter_is_promoted_only_by_force(
    command: Command, rejected: Path, group: list[str]
) -> None:
    words = [*group, "promote", "policy-000002", "--data", rejected]
    said = one_line(command(*words), 3)
    assert "rejected by cycle 1: win rate 49%; 18% of replies end in mid-sentence" in said
    assert "it can be served anyway: with --force" in said
    assert "rollback is not possible" in one_line(command("rollback", "--data", rejected), 3)
    done = command(*words, "--force", "--json")
    assert json.loads(done.stdout) == {"serving": "policy-000002", "previous": "policy-000000"}
    assert done.stderr.startswith("warning: adapter 'policy-000002' was rejected by cycle 1: win")
    assert "serving policy-000000" in command("rollback", "--data", rejected).stdout
    assert "serving policy-000002" in command("rollback", "--data", rejected).stdout  # and again


def test_force_serves_no_damaged_and_no_unknown_adapter(command: Command, rejected: Path) -> None:
    (rejected / "adapters" / "policy-000002" / "extra.json").write_text("{}")
    words = ["promote", "--force", "--data", rejected]
    assert "extra.json" in one_line(command(*words, "policy-000002"), 3)
    assert "policy-000009" in one_line(command(*words, "policy-000009"), 1)
    with FeedbackStore(rejected / "feedback.db") as store:
        assert store.serving().adapter == "policy-000000"
        assert store.adapter("policy-000002").state == "rejected"


def test_the_anchor_is_moved_by_an_operator_and_status_shows_it(
    command: Command, data: Path, tiny_adapters: Path
) -> None:
    shutil.copytree(tiny_adapters, data / "adapters")
    with FeedbackStore(data / "feedback.db") as store:
        store.register_adapter("policy-000001", kind="policy", state="published")
    words = ["adapters", "anchor", "--data", data]
    assert "KL counts from policy-000001" in command(*words, "policy-000001").stdout
    assert "anchor    policy-000001" in command("status", "--data", data).stdout
    assert "policy-000009" in one_line(command(*words, "policy-000009"), 1)
    weights = data / "adapters" / "policy-000001" / "adapter_model.safetensors"
    weights.write_bytes(b"broken")
    one_line(command(*words, "policy-000001"), 3)
    back = command(*words, "policy-000000", "--json")
    assert json.loads(back.stdout) == {"anchor": "policy-000000"}


def test_a_damaged_adapter_is_found_and_not_promoted(
    command: Command, data: Path, tiny_adapters: Path
) -> None:
    shutil.copytree(tiny_adapters, data / "adapters")
    (data / "adapters" / "policy-000001" / "extra.json").write_text("{}")
    with FeedbackStore(data / "feedback.db") as store:
        for name in ("policy-000001", "policy-000002"):
            store.register_adapter(name, kind="policy", state="published")
    done = command("adapters", "verify", "--data", data, "--json")
    assert "policy-000001" in one_line(done, 1)
    faults = json.loads(done.stdout)
    assert "extra.json" in faults["policy-000001"] and faults["policy-000002"] is None
    said = one_line(command("adapters", "promote", "policy-000001", "--data", data), 3)
    assert "extra.json" in said


@pytest.fixture
def published(data: Path, tiny_adapters: Path) -> Path:
    """The service's directory with two published adapters."""
    shutil.copytree(tiny_adapters, data / "adapters")
    with FeedbackStore(data / "feedback.db") as store:
        for name in ("policy-000001", "policy-000002"):
            store.register_adapter(name, kind="policy", state="published")
    return data


def test_a_rollback_skips_a_damaged_adapter_and_says_so(command: Command, published: Path) -> None:
    for name in ("policy-000001", "policy-000002"):
        assert command("promote", name, "--data", published).returncode == 0
    (published / "adapters" / "policy-000001" / "extra.json").write_text("{}")
    done = command("rollback", "--data", published)
    first, second = done.stdout.splitlines()
    assert first == "serving policy-000000"
    assert second.startswith("skipped policy-000001: ") and "extra.json" in second
    again = json.loads(command("rollback", "--data", published, "--json").stdout)
    assert again == {"serving": "policy-000002", "previous": "policy-000000", "skipped": {}}
    (published / "adapters" / "policy-000002" / "extra.json").write_text("{}")
    assert command("promote", "policy-000000", "--data", published).returncode == 0
    assert "extra.json" in one_line(command("rollback", "--data", published), 3)


def test_an_adapter_from_elsewhere_is_used_once_an_operator_signs_it(
    command: Command, published: Path, tiny_adapters: Path
) -> None:
    assert command("promote", "policy-000001", "--data", published).returncode == 0  # signs both
    folder = published / "adapters" / "policy-000002"
    shutil.rmtree(folder)
    shutil.copytree(tiny_adapters / "policy-000002", folder)
    words = ["promote", "policy-000002", "--data", published]
    assert "`feedback-chat adapters sign policy-000002`" in one_line(command(*words), 3)
    assert "policy-000002" in one_line(command("adapters", "verify", "--data", published), 1)
    lost = command("adapters", "verify", "policy-000009", "--data", published)
    assert "there is no 'policy-000009' among the adapters" in one_line(lost, 2)
    sign = ["adapters", "sign", "--data", published]
    assert "policy-000009" in one_line(command(*sign, "policy-000002", "policy-000009"), 1)
    assert "is not signed" in one_line(command(*words), 3)
    done = command(*sign, "policy-000002", "--json")
    assert json.loads(done.stdout) == {"signed": ["policy-000002"]}
    assert command(*words).stdout == "serving policy-000002\n"
    (folder / "extra.json").write_text("{}")
    assert "extra.json" in one_line(command(*sign, "policy-000002"), 3)


def test_who_only_looks_signs_nothing(command: Command, published: Path) -> None:
    before = {file: file.read_bytes() for file in published.rglob("*.json")}
    command("adapters", "verify", "--data", published)
    command("doctor", "--data", published)
    assert {file: file.read_bytes() for file in published.rglob("*.json")} == before
    assert not (published / "secrets").exists()


def test_a_restored_directory_has_the_key_of_its_adapters(
    command: Command, published: Path, tiny_adapters: Path, tmp_path: Path
) -> None:
    old, copy, new = tmp_path / "old", tmp_path / "copy", tmp_path / "new"
    assert command("backup", old, "--data", published).returncode == 0  # nothing is signed yet
    publish_copy(tiny_adapters / "policy-000001", old, "policy-000003", key=None)  # no row has it
    assert command("promote", "policy-000001", "--data", published).returncode == 0
    assert command("backup", copy, "--data", published).returncode == 0
    for folder in (copy, old):
        assert command("restore", folder, "--data", new).returncode == 0
        assert command("promote", "policy-000002", "--data", new).returncode == 0
        shutil.rmtree(new)
    (copy / "secrets" / "adapter-key").unlink()
    said = one_line(command("restore", copy, "--data", new), 1)
    assert "nothing was restored" in said and "signed with another key" in said


def test_an_export_imports_into_another_store_once(
    command: Command, data: Path, tmp_path: Path
) -> None:
    file = tmp_path / "events.jsonl"
    assert command("export", file, "--data", data).returncode == 0
    events = [json.loads(line) for line in file.read_text().splitlines()]
    assert [event["idempotency_key"] for event in events] == ["k1"]
    other = tmp_path / "other"
    assert "1 of 1" in command("import", file, "--create", "--data", other).stdout
    assert "0 of 1" in command("import", file, "--data", other).stdout
    words = ["export", "--format", "preferences", "--split", "all"]
    preferences = command(*words, "--data", other)
    assert json.loads(preferences.stdout)["chosen"][0]["content"] == "Lima."
    file.write_text(file.read_text() + "{broken\n")
    assert "nothing was imported" in one_line(command("import", file, "--data", other), 2)


def test_a_rater_is_forgotten_only_when_that_is_confirmed(command: Command, data: Path) -> None:
    assert "nobody" in one_line(command("forget", "nobody", "--yes", "--data", data), 1)
    done = command("forget", "rater-1", "--yes", "--data", data, "--json")
    assert json.loads(done.stdout)["choices"] == 1
    assert command("export", "--data", data).stdout == ""


def test_forgetting_takes_what_was_said_out_of_the_reports_of_cycles(
    command: Command, data: Path
) -> None:
    reports = [data / "cycles" / f"00000{number}" / "report.json" for number in (1, 2)]
    for report, samples in zip(reports, ([{"prompt": "Capital of Peru?"}], []), strict=True):
        report.parent.mkdir(parents=True)
        report.write_text(json.dumps({"checks": [1], "samples": samples}))
    done = command("forget", "rater-1", "--yes", "--data", data, "--json")
    assert json.loads(done.stdout)["reports"] == 1
    assert [json.loads(report.read_text()) for report in reports] == [
        {"checks": [1], "samples": []}
    ] * 2
    assert not any(b"Peru" in file.read_bytes() for file in data.rglob("*") if file.is_file())


def test_forgetting_takes_replies_to_probes_out_of_reports_since_adapters_may_quote_people(
    command: Command, data: Path
) -> None:
    report = data / "cycles" / "000001" / "report.json"
    report.parent.mkdir(parents=True)
    said = {"samples": [], "probe_samples": [{"candidate": "Lima, as you told me"}]}
    report.write_text(json.dumps(said))
    done = command("forget", "rater-1", "--yes", "--data", data, "--json")
    assert json.loads(done.stdout)["reports"] == 1
    assert json.loads(report.read_text()) == {"samples": [], "probe_samples": []}


def test_nobody_is_forgotten_by_half(command: Command, data: Path) -> None:
    words = ["forget", "rater-1", "--yes", "--data", data]
    report = data / "cycles" / "000001" / "report.json"
    report.parent.mkdir(parents=True)
    report.write_text("{broken")
    assert str(report) in one_line(command(*words), 1)
    report.unlink()
    with FeedbackStore(data / "feedback.db") as store:
        store.start_cycle({}, pid=os.getpid())
        assert "cycle 1" in one_line(command(*words), 3)
        assert store.counts()["raters"] == 1


def test_a_backup_restores_to_the_same_state(command: Command, data: Path, tmp_path: Path) -> None:
    (data / "secrets").mkdir(mode=0o700)
    (data / "secrets" / "key").write_text("s")
    copy, new = tmp_path / "copy", tmp_path / "new"
    made = json.loads(command("backup", copy, "--data", data, "--json").stdout)
    assert (made["data"], made["backup"]) == (str(data), str(copy))
    assert made["files"] == 3 and made["counts"]["messages"] == 3
    assert made["bytes"] == sum(path.stat().st_size for path in copy.rglob("*") if path.is_file())
    assert "exists already" in one_line(command("backup", copy, "--data", data), 3)
    done = json.loads(command("restore", copy, "--data", new, "--json").stdout)
    assert done["data"] == str(new) and done["counts"] == made["counts"]
    assert "exists already" in one_line(command("restore", copy, "--data", new), 3)
    damaged = copy / "adapters" / "policy-000001"
    damaged.mkdir(parents=True)
    (damaged / "adapter_model.safetensors").write_bytes(b"cut short")
    said = one_line(command("restore", copy, "--data", tmp_path / "no"), 1)
    assert "nothing was restored" in said and not (tmp_path / "no").exists()
    shutil.rmtree(damaged)
    status = [command("status", "--data", path, "--json").stdout for path in (data, new)]
    assert status[0] == status[1] and (new / "secrets" / "key").read_text() == "s"
    assert "no backup" in one_line(command("restore", tmp_path, "--data", tmp_path / "x"), 2)


def test_the_stores_error_about_a_broken_backup_is_shown(
    command: Command, data: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    assert command("backup", copy, "--data", data).returncode == 0
    (copy / "feedback.db").write_bytes(b"no database" * 1000)
    said = one_line(command("restore", copy, "--data", tmp_path / "new"), 1)
    assert "cannot open" in said and "restore a backup" in said
    assert "cannot write" not in said and not (tmp_path / "new").exists()


def test_a_store_that_fails_during_an_export_is_named_and_not_the_file(
    command: Command, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(_: FeedbackStore) -> Iterator[dict[str, Any]]:
        yield {"rater": {"id": "ann"}}
        raise StoreUnavailableError("feedback.db did not answer; try again.")

    monkeypatch.setattr(FeedbackStore, "export_events", locked)
    said = one_line(command("export", tmp_path / "events.jsonl", "--data", data), 1)
    assert said == "feedback-chat: feedback.db did not answer; try again."


def test_all_commands_open_an_old_sqlite_if_it_is_allowed(
    command: Command, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, events, risk = tmp_path / "copy", tmp_path / "e", {"FEEDBACK_CHAT_ALLOW_OLD_SQLITE": "1"}
    monkeypatch.setattr("feedback_store.sqlite.database.OLDEST_SAFE_SQLITE", (99, 0, 0))
    monkeypatch.setattr("chat_app.server._run", lambda *_: None)  # once the store is open
    for words in (
        ["status", "--data", data],
        ["export", events, "--data", data],
        ["import", events, "--create", "--data", tmp_path / "other"],
        ["backup", copy, "--data", data],
        ["restore", copy, "--data", tmp_path / "new"],
        ["serve", "--port", "0", "--data", data],
    ):
        done = command(*words, **risk)
        assert done.returncode == 0, done.stderr
    assert "too little evidence" in one_line(command("cycle", "--json", "--data", data, **risk), 3)
    assert "allow_old_sqlite" in one_line(command("status", "--data", data), 1)


def test_the_doctor_names_what_is_wrong(command: Command, data: Path, tiny_model: Path) -> None:
    words = ["doctor", "--data", data, "--json"]
    settings = {"FEEDBACK_CHAT_MODEL": str(tiny_model), "FEEDBACK_CHAT_QUANTIZATION": "none"}
    done = command(*words, **settings)
    assert done.returncode == 0, done.stderr
    found = {finding["name"]: finding["good"] for finding in json.loads(done.stdout)}
    checks = "python disk database comparisons adapters cycles erasure model plan"
    assert found == dict.fromkeys(checks.split(), True)
    (data / "feedback.db").write_bytes(b"no database" * 1000)
    assert "database" in one_line(command(*words, **settings), 1)


def test_an_unexpected_error_is_one_line_and_says_how_to_see_more() -> None:
    assert error_text(KeyError("lost\nand found")) == (
        r"unexpected KeyError: 'lost\nand found' (set FEEDBACK_CHAT_DEBUG=1 for the traceback)"
    )
    assert error_text(RefusedError("not\nnow")) == "not now"
    assert [exit_code(exc) for exc in (KeyError(), RefusedError(), InvalidRequestError("so"))] == [
        1,
        3,
        2,
    ]


def test_the_module_and_the_command_are_the_same() -> None:
    words = [sys.executable, "-m", "chat_app", "status", "--data", "/nowhere/at/all"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("feedback-chat: no database in /nowhere/at/all")


def test_ctrl_c_while_the_modules_load_is_one_line_and_no_traceback() -> None:
    """A finder in the new process presses Ctrl-C at the moment when typer is looked for."""
    program = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
class CtrlC:
    def find_spec(self, name, path=None, target=None):
        if name == "typer":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, CtrlC())
sys.argv = ["feedback-chat", "status"]
from chat_app.__main__ import main
main()
"""
    words = [sys.executable, "-c", program]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "feedback-chat: interrupted\n"


def test_a_second_server_on_the_same_data_is_refused(command: Command, data: Path) -> None:
    with FileLock(data / "server.lock"):
        line = one_line(command("serve", "--data", data, "--port", "0"), 3)
    assert "another server uses" in line and str(data) in line


def test_too_little_evidence_is_said_once(command: Command, data: Path) -> None:
    done = command("cycle", "--data", data)
    assert "too little evidence: 1 decided" in one_line(done, 3)
    assert done.stdout == ""


def test_an_unanswered_question_does_nothing(
    command: Command, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    done = command("forget", "rater-1", "--data", data)
    assert done.returncode == 1
    assert "nothing was done" in done.stderr
    with FeedbackStore(data / "feedback.db") as store:
        assert len(store.choices()) == 1
