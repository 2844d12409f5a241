"""Forgetting, the retention sweep and search, from the command line and in every file."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pyarrow.parquet as pq
import pytest

from chat_app.commands.main import main
from feedback_store.records import CandidateReply
from feedback_store.sqlite.ids import iso_utc, new_id
from feedback_store.store import FeedbackStore

CANARIES = [f"magpie{number:02d}bird" for number in range(20)]
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC).timestamp()

# Forks a process that forgets for each line of standard input: "SECONDS": kill it after so many
# seconds, "-": let it end. Answers with its exit code.
FORGETTING = """
import os, signal, sys, time
from pathlib import Path
from chat_app.commands.people.privacy import forget

def forget_in_a_process(data):
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    forget("ann-id", yes=True, data=Path(data))
    os._exit(0)

for line in sys.stdin:
    data, seconds = line.split()
    pid = os.fork()
    if pid == 0:
        try:
            forget_in_a_process(data)
        except BaseException as exc:
            os.write(2, f"{type(exc).__name__}: {exc}\\n".encode())
            os._exit(1)
    began = time.monotonic()
    if seconds != "-":
        time.sleep(float(seconds))
        os.kill(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    print(code, time.monotonic() - began, flush=True)
"""


class Done(NamedTuple):
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


class Command(Protocol):
    """Runs the command line in this process."""

    def __call__(self, *words: str | Path) -> Done: ...


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    def run(*words: str | Path) -> Done:
        with monkeypatch.context() as patch, pytest.raises(SystemExit) as end:
            patch.setattr(sys, "argv", ["feedback-chat", *map(str, words)])
            main()
        return Done(int(end.value.code or 0), *capsys.readouterr())

    return run


def say(store: FeedbackStore, rater: str, words: list[str], rows: int) -> None:
    """Have a rater leave each of the words in many of `rows` rows, wherever one can."""
    store.add_rater(rater, consent="1")
    for number in range(rows // 8):
        with store._file.write():  # eight rows and more, one flush
            say_once(store, rater, words[number % len(words)], str(number))


def say_once(store: FeedbackStore, rater: str, word: str, number: str) -> None:
    text = f"{word} said {number}"
    chat = store.add_conversation(rater, title=text)
    asked = store.add_message(chat.id, "user", text)
    replies = [CandidateReply(f"{text} {label}") for label in "abc"[: 2 + int(number) % 2]]
    shown, made = store.add_candidates(asked.id, replies, rater_id=rater)
    key = f"{rater}-{text}"
    if len(made) == 2:
        store.add_choice(shown, rater, "a", idempotency_key=key)
    else:
        store.add_ranking(shown, rater, [["b"], ["a", "c"]], idempotency_key=key)
    store.add_thumb(made[0].id, rater, 1, tags=[text], comment=text, idempotency_key=key)
    store.add_demonstration(rater, text, message_id=made[0].id, idempotency_key=key)
    prompt = [{"role": "user", "content": text}]
    store.add_demonstration(rater, text, prompt=prompt, idempotency_key=f"{key}-free")


def make_data(data: Path, *, rows: int) -> None:
    """A data directory in which Ann's canaries are wherever the service may put them."""
    with FeedbackStore(data / "feedback.db") as store:
        say(store, "bob-id", ["harmless"], 50)
        old = data / "exports" / "old.jsonl"
        store.export_file(old, "events")
        os.utime(old, (LONG_AGO, LONG_AGO))
        say(store, "ann-id", CANARIES, rows)
        store.refresh_comparisons()
        mine = [item.id for item in store.comparisons() if item.rater_id == "ann-id"]
        cycle = store.start_cycle({}, pid=os.getpid())
        store.use_comparisons(cycle.id, mine)
        store.register_adapter("policy-000001", kind="policy", cycle_id=cycle.id)
        store.finish_cycle(cycle.id, state="promoted", adapter="policy-000001")
        for form in ("events", "preference", "unpaired", "sft", "prompts"):
            store.export_file(data / "exports" / f"{form}.jsonl", form)
            if form != "events":
                store.export_file(data / "exports" / "tables" / f"{form}.parquet", form)
        store.export_file(data / "mine.jsonl", "events")
        forgettable = data / "exports" / f".prompts.jsonl.{new_id()}.partial"  # of a killed process
        forgettable.write_text("\n".join(CANARIES))
    report = data / "cycles" / "000001" / "report.json"
    report.parent.mkdir(parents=True)
    report.write_text(json.dumps({"checks": [1], "samples": [{"prompt": CANARIES[3]}]}))
    left = data / "cycles" / "000002" / "checkpoints" / "evidence.json"  # of a cycle that died
    left.parent.mkdir(parents=True)
    left.write_text(json.dumps({"snapshot": CANARIES}))
    (data / "cycles" / "output.log").write_text(f"ValueError: {CANARIES[4]}")


def hits(data: Path) -> list[tuple[str, str]]:
    """Each magpie in each file, and what Parquet files hold once they are unpacked."""
    found = []
    for file in sorted(path for path in data.rglob("*") if path.is_file()):
        content = file.read_bytes()
        if file.suffix == ".parquet":
            content += json.dumps(pq.read_table(file).to_pylist()).encode()
        found += [(file.name, word) for word in CANARIES if word.encode() in content]
    return found


def rows_of(data: Path, rater: str) -> int:
    with FeedbackStore(data / "feedback.db") as store:
        return len(store.feedback_of(rater))


def test_a_forgotten_raters_canaries_are_in_no_file(command: Command, tmp_path: Path) -> None:
    data = tmp_path / "data"
    make_data(data, rows=1_000)
    files = {name for name, _ in hits(data)}
    assert b"bird" in (data / "feedback.db").read_bytes()
    assert {"feedback.db", "events.jsonl", "sft.parquet", "report.json", "output.log"} <= files
    done = command("forget", "ann-id", "--yes", "--data", data, "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    said = ("conversations", "messages", "thumbs", "choices", "rankings", "demonstrations")
    assert sum(facts[table] for table in said) > 1_000
    assert (facts["exports"], facts["reports"], facts["logs"]) == (11, 1, 1)
    assert facts["checkpoints"] == 1
    assert facts["adapters"] == ["policy-000001"]
    assert hits(data) == []
    # nor fragments: the index of words keeps only how a word differs from the one before
    assert b"bird" not in (data / "feedback.db").read_bytes()
    assert "harmless" in (data / "exports" / "old.jsonl").read_text()
    assert rows_of(data, "bob-id") == 24
    listed = command("adapters", "list", "--data", data)
    assert "policy-000001" in listed.stdout and "forgotten on" in listed.stdout
    marks = json.loads(command("adapters", "list", "--data", data, "--json").stdout)
    assert [row["name"] for row in marks if row["tainted_at"]] == ["policy-000001"]


def state(data: Path) -> list[bool]:
    """Whether forgetting, if it was begun, was finished."""
    with FeedbackStore(data / "feedback.db") as store:
        return [item.done_at is not None for item in store.forgotten()]


def kill_midway(data: Path, times: int) -> int:
    """Kill forgetting at any moment, resume, look; until so many kills were midway."""
    template = data.with_name("template")
    data.rename(template)
    midway, moments = 0, random.Random(0)
    with subprocess.Popen(
        [sys.executable, "-c", FORGETTING],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as process:

        def forget_copy(seconds: float | None, *, fresh: bool = True) -> tuple[int, float]:
            if fresh:
                shutil.rmtree(data, ignore_errors=True)
                subprocess.run(["cp", "-a", template, data], check=True)
            assert process.stdin and process.stdout
            process.stdin.write(f"{data} {'-' if seconds is None else seconds}\n")
            code, took = process.stdout.readline().split()
            return int(code), float(took)

        code, whole = forget_copy(None)
        assert code == 0
        for _ in range(6 * times):
            code, _ = forget_copy(moments.uniform(0, whole))
            assert code in (0, -signal.SIGKILL)
            whole *= 0.9 if code == 0 else 1.02  # a machine is not always as busy as at first
            if state(data) == [False]:
                midway += 1
                forget_copy(moments.uniform(0, whole), fresh=False)  # and once more
            if state(data) != [True]:
                assert forget_copy(None, fresh=False)[0] == 0
            assert hits(data) == []
            assert b"bird" not in (data / "feedback.db").read_bytes()
            assert rows_of(data, "bob-id") == 24
            if midway == times:
                break
        assert process.stdin
        process.stdin.close()
    return midway


def test_forgetting_that_was_killed_is_resumed_to_the_end(tmp_path: Path) -> None:
    make_data(tmp_path / "data", rows=200)
    assert kill_midway(tmp_path / "data", 3) == 3


@pytest.mark.slow
def test_fifty_kills_midway_leave_no_magpie_once_resumed(tmp_path: Path) -> None:
    make_data(tmp_path / "data", rows=1_000)
    assert kill_midway(tmp_path / "data", 50) == 50


def test_doctor_tells_of_forgetting_that_was_interrupted_and_a_sweep_finishes_it(
    command: Command, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    make_data(data, rows=200)
    report = data / "cycles" / "000001" / "report.json"
    text = report.read_text()
    report.write_text("{broken")
    done = command("forget", "ann-id", "--yes", "--data", data)
    assert done.returncode == 1 and str(report) in done.stderr
    findings = json.loads(command("doctor", "--data", data, "--json").stdout)
    bad = {item["name"]: item["text"] for item in findings if not item["good"]}
    assert "did not finish" in bad["erasure"]
    report.write_text(text)
    assert command("sweep", "--older-than", "30", "--data", data).returncode == 0
    assert hits(data) == []
    findings = json.loads(command("doctor", "--data", data, "--json").stdout)
    assert "erasure" not in {item["name"] for item in findings if not item["good"]}


def test_copies_elsewhere_are_named_with_their_dates_and_left_alone(
    command: Command, tmp_path: Path
) -> None:
    data, backup, copy = tmp_path / "data", tmp_path / "backup", tmp_path / "copy.jsonl"
    make_data(data, rows=200)
    for _ in range(2):
        assert command("backup", backup, "--data", data).returncode in (0, 3)
    with FeedbackStore(data / "feedback.db") as store:
        store.export_file(copy, "events")
        store.export_file(tmp_path / "deleted.jsonl", "events")
    (tmp_path / "deleted.jsonl").unlink()
    done = command("forget", "ann-id", "--yes", "--data", data)
    assert str(backup) in done.stdout and str(copy) in done.stdout
    assert "deleted.jsonl" not in done.stdout
    assert f"backup of {datetime.now(UTC).year}" in done.stdout
    assert CANARIES[0] in copy.read_text()


def test_an_old_export_does_not_bring_a_forgotten_rater_back(
    command: Command, tmp_path: Path
) -> None:
    data, copy = tmp_path / "data", tmp_path / "copy.jsonl"
    make_data(data, rows=200)
    with FeedbackStore(data / "feedback.db") as store:
        store.export_file(copy, "events")
    assert command("forget", "ann-id", "--yes", "--data", data).returncode == 0
    done = command("import", copy, "--data", data)
    assert done.returncode == 0, done.stderr
    assert "0 of 124 events were new" in done.stdout
    assert hits(data) == []
    assert "ann-id" in command("forget", "ann-id", "--yes", "--data", data).stderr


def test_whoever_was_forgotten_since_a_backup_is_forgotten_again_once_it_is_restored(
    command: Command, tmp_path: Path
) -> None:
    data, backup, restored = (tmp_path / name for name in ("data", "backup", "restored"))
    make_data(data, rows=200)
    assert command("backup", backup, "--data", data).returncode == 0
    assert command("forget", "ann-id", "--yes", "--data", data).returncode == 0
    assert command("restore", backup, "--data", restored).returncode == 0
    assert hits(restored)
    words: list[str | Path] = ["forget", "--as-in", data, "--yes", "--data", restored]
    assert "25 conversations" in command(*words).stdout
    assert hits(restored) == []
    assert rows_of(restored, "bob-id") == 24
    assert command(*words).stdout == "erased: nothing\n"
    assert command("forget", "--data", data).returncode == 2


def age(data: Path, rater: str, days: float) -> None:
    then = iso_utc(datetime.now(UTC) - timedelta(days=days))
    with FeedbackStore(data / "feedback.db") as store, store._file.write() as db:
        mine = "(SELECT id FROM conversations WHERE rater_id = ?)"
        db.execute(
            f"UPDATE messages SET created_at = ? WHERE conversation_id IN {mine}", [then, rater]
        )
        db.execute("UPDATE conversations SET created_at = ? WHERE rater_id = ?", [then, rater])
        db.execute("UPDATE raters SET created_at = ? WHERE id = ?", [then, rater])


def test_a_sweep_deletes_what_is_old_and_says_how_much(command: Command, tmp_path: Path) -> None:
    data = tmp_path / "data"
    make_data(data, rows=200)
    age(data, "ann-id", 31)
    words: list[str | Path] = ["sweep", "--older-than", "30", "--data", data]
    planned = json.loads(command(*words, "--dry-run", "--json").stdout)
    assert planned["conversations"] == 25
    assert len(hits(data)) > 100
    swept = json.loads(command(*words, "--json").stdout)
    assert {name: swept[name] for name in planned} == planned
    assert swept["exports"] == 1  # the old one; the others are younger than thirty days
    assert not (data / "exports" / "old.jsonl").exists()
    assert rows_of(data, "bob-id") == 24
    again: dict[str, Any] = json.loads(command(*words, "--json").stdout)
    assert not any(again.values())
    assert "30 days" not in command(*words).stderr


@pytest.mark.parametrize("days", ["0", "-1", "nan", "1e9"])
def test_a_sweep_of_impossible_days_is_wrong_usage(
    command: Command, tmp_path: Path, days: str
) -> None:
    done = command("sweep", f"--older-than={days}", "--data", tmp_path)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "--older-than takes more than 0" in done.stderr


def test_erased_records_are_named_in_words_and_not_by_tables(
    command: Command, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    make_data(data, rows=200)
    with FeedbackStore(data / "feedback.db") as store:
        say(store, "ann-id", ["not yet derived"], 8)
    done = command("forget", "ann-id", "--yes", "--data", data)
    assert done.stdout.startswith("erased: ") and " comparisons" in done.stdout
    assert "stale" not in done.stdout and "_prompts" not in done.stdout


def test_search_finds_messages_and_says_where(command: Command, tmp_path: Path) -> None:
    data = tmp_path / "data"
    make_data(data, rows=200)
    hit, *_ = json.loads(command("search", CANARIES[2], "--data", data, "--json").stdout)
    assert hit["rater_id"] == "ann-id" and f"[{CANARIES[2]}]" in hit["snippet"]
    lines = command("search", CANARIES[2], "said", "--data", data, "--limit", "3").stdout
    assert len(lines.splitlines()) == 3 and hit["conversation_id"] in lines
    assert "no message has all of: nowhere" in command("search", "nowhere", "--data", data).stdout
    assert command("search", " ", "--data", data).returncode == 1


def test_a_conversation_is_left_out_and_taken_in_by_commands(
    command: Command, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    with FeedbackStore(data / "feedback.db") as store:
        say(store, "ann-id", ["harmless"], 16)
        [first, _] = store.conversations("ann-id")
        store.refresh_comparisons()
        before = len(store.comparisons())
    what = ("conversation", first.id, "--data", data)
    assert command("leave-out", *what).returncode == 2, "it needs a reason"
    done = command("leave-out", *what, "--reason", "spam")
    assert done.stdout == f"conversation {first.id} is left out of training\n"
    with FeedbackStore(data / "feedback.db") as store:
        assert len(store.comparisons()) < before
        assert store.why_left_out("conversation", first.id) == "spam"
    assert "counts again" in command("take-in", *what).stdout
    assert command("take-in", *what).returncode != 0
    with FeedbackStore(data / "feedback.db") as store:
        assert len(store.comparisons()) == before
