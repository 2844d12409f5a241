"""Export and import on the command line: where files go, what is said, the exit codes."""

import gzip
import io
import json
import stat
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from feedback_store.datasets.imports import ImportReport
from feedback_store.records import CandidateReply
from feedback_store.store import FeedbackStore
from tests.chat_app.commands import test_main
from tests.chat_app.commands.test_main import Command, one_line

command, data = test_main.command, test_main.data

GOOD = json.dumps(
    {
        "chosen": "\n\nHuman: Capital of Chile?\n\nAssistant: Santiago.",
        "rejected": "\n\nHuman: Capital of Chile?\n\nAssistant: Bonn.",
    }
)


@pytest.mark.parametrize("form", ["preference", "preferences"])
def test_an_export_goes_where_it_is_told(
    command: Command, data: Path, tmp_path: Path, form: str
) -> None:
    words = ["export", "--format", form, "--split", "all", "--data", data]
    line = command(*words).stdout
    assert json.loads(line)["chosen"][0]["content"] == "Lima."
    done = command(*words, tmp_path / "a.jsonl")
    assert f"1 rows of {form} written to {tmp_path / 'a.jsonl'}" in one_line(done, 0)
    assert (tmp_path / "a.jsonl").read_text() == line
    assert "--force" in one_line(command(*words, tmp_path / "a.jsonl"), 3)
    (tmp_path / "a.jsonl").write_text("old")
    assert command(*words, tmp_path / "a.jsonl", "--force").returncode == 0
    assert (tmp_path / "a.jsonl").read_text() == line
    done = command(*words, tmp_path / "c.parquet", "--json")
    report = json.loads(done.stdout)
    assert (report["rows"], report["left_out"], done.stderr) == (1, {}, "")
    assert pq.read_table(report["path"]).to_pylist() == [json.loads(line)]


def test_an_export_in_the_data_directory_is_private_and_is_forgotten_with_the_rater(
    command: Command, data: Path
) -> None:
    words = ["export", data / "exports" / "prompts.parquet", "--format", "prompts"]
    done = command(*words, "--split", "all", "--data", data, "--json")
    file = Path(json.loads(done.stdout)["path"])
    assert file == (data / "exports" / "prompts.parquet").resolve()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert command("forget", "rater-1", "--yes", "--data", data).returncode == 0
    assert not file.exists()


def test_filters_reach_the_store_and_what_is_left_out_is_said(command: Command, data: Path) -> None:
    with FeedbackStore(data / "feedback.db") as store:
        asked = store.add_message(store.conversations("rater-1")[0].id, "user", "Tea?")
        replies = [CandidateReply("Yes.", adapter="policy-000001"), CandidateReply("No.")]
        shown, _ = store.add_candidates(asked.id, replies, rater_id="rater-1")
        store.add_choice(shown, "rater-1", "tie", idempotency_key="k2")
    words = ["export", "--format", "preference", "--split", "all", "--data", data]
    assert "1 rows of preference; ties left out: 1" in one_line(command(*words), 0)
    done = command(*words, "--adapter", "policy-000001")
    assert done.stdout == "" and "0 rows of preference; ties left out: 1" in one_line(done, 0)
    done = command(*words, "--source", "edit")
    assert done.stdout == "" and "0 rows of preference" in one_line(done, 0)
    row = json.loads(command(*words, "--with-metadata").stdout)
    assert (row["rater"], row["source"], row["weight"]) == ("rater-1", "choice", 1.0)


def test_an_empty_data_set_is_refused_and_leaves_no_file(
    command: Command, data: Path, tmp_path: Path
) -> None:
    words = ["export", "--format", "preference", "--source", "edit", "--data", data]
    said = one_line(command(*words, tmp_path / "new" / "empty.parquet"), 3)
    assert "0 rows of preference fit" in said and "empty.parquet" in said
    assert not list(tmp_path.glob("new/*"))


def test_held_out_questions_are_exported_only_if_asked_for(command: Command, data: Path) -> None:
    with FeedbackStore(data / "feedback.db") as store:
        conversation = store.conversations("rater-1")[0].id
        for number in range(30):
            asked = store.add_message(conversation, "user", f"What is {number}?")
            reply = store.add_message(conversation, "assistant", "I know.", parent_id=asked.id)
            store.add_thumb(reply.id, "rater-1", 1, idempotency_key=f"t{number}")

    def splits(*words: str) -> list[str]:
        options = ["--format", "unpaired", "--with-metadata", "--data", data]
        lines = command("export", *options, *words).stdout.splitlines()
        return [json.loads(line)["split"] for line in lines]

    assert set(splits()) == {"train"}
    assert set(splits("--split", "held_out")) == {"held_out"}
    assert len(splits()) + len(splits("--split", "held_out")) == len(splits("--split", "all")) == 30
    assert len(command("export", "--data", data).stdout.splitlines()) == 31


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--format", "preference", "--split", "test"], "'test'"),
        (["--format", "events", "--split", "train"], "'split'"),
        (["--format", "events", "--with-metadata"], "'with_metadata'"),
        (["--format", "events", "--source", "choice"], "'source'"),
        (["--format", "csv"], "csv"),
        (["--json"], "give one as FILE"),
        (["a.parquet"], "events do not fit"),
        (["/dev/null"], "not a regular file"),
        (["--format", "preference", "--source", "bogus"], "use one of 'choice'"),
        (["--format", "preference", "--adapter", "policy-999999"], "no adapter 'policy-999999'"),
    ],
)
def test_an_export_that_makes_no_sense_is_wrong_usage(
    command: Command, data: Path, words: list[str], says: str
) -> None:
    assert says in one_line(command("export", *words, "--data", data), 2)


def test_an_import_says_what_became_of_every_line(
    command: Command, data: Path, tmp_path: Path
) -> None:
    file = tmp_path / "hh.jsonl"
    parted = GOOD.replace("Chile", "Peru", 1)
    file.write_text("\n".join([GOOD, "{broken", parted, GOOD]))
    words = ["import", file, "--format", "hh", "--data", data]
    done = command(*words)
    assert done.returncode == 0 and done.stderr == ""
    assert [" ".join(line.split()) for line in done.stdout.splitlines()] == [
        "4 lines of hh read: 1 judgements are new",
        "1 known already",
        "1 left out: the conversations part before the last reply",
        "1 malformed lines, the first of them named",
        "line 2: not JSON: Expecting property name enclosed in double quotes: line 1 column 2 "
        "(char 1)",
    ]
    report = json.loads(command(*words, "--json").stdout)
    assert (report["read"], report["new"], report["known"]) == (4, 0, 2)
    assert report["malformed"][0][0] == 2
    exported = command("export", "--format", "preference", "--split", "all", "--data", data).stdout
    assert len(exported.splitlines()) == 2


def test_a_file_without_anything_usable_is_named_with_its_first_fault(
    command: Command, data: Path, tmp_path: Path
) -> None:
    file = tmp_path / "arena.json"
    file.write_text(f"[{GOOD}]")
    line = one_line(command("import", file, "--format", "arena", "--data", data), 2)
    assert str(file) in line and "line 1: there is no 'winner'" in line
    file.write_text("[1,")
    assert "JSON list" in one_line(command("import", file, "--format", "hh", "--data", data), 2)
    nowhere = ["import", "/none.parquet", "--format", "hh", "--data", tmp_path / "new"]
    assert "/none.parquet" in one_line(command(*nowhere), 2)
    assert not (tmp_path / "new").exists()


def test_an_import_makes_a_new_store_only_if_told_to(
    command: Command, data: Path, tmp_path: Path
) -> None:
    file, new = tmp_path / "hh.jsonl", tmp_path / "mistyped"
    file.write_text(GOOD)
    words = ["import", file, "--format", "hh", "--data", new]
    said = one_line(command(*words), 2)
    assert f"no database in {new}" in said and "--create" in said and not new.exists()
    assert "1 judgements are new" in command(*words, "--create").stdout
    assert "0 judgements are new" in command(*words).stdout


def test_an_import_that_fails_leaves_no_new_store(
    command: Command, data: Path, tmp_path: Path
) -> None:
    event = command("export", "--data", data).stdout
    cut, new, there = tmp_path / "cut.jsonl", tmp_path / "new", tmp_path / "there"
    there.mkdir()
    for form, text in (
        ("events", event + event[:40]),
        ("events", '{"event": "thumb"}'),
        ("hh", GOOD[:40]),
    ):
        cut.write_text(text)
        for place in (new, there):
            words = ["import", cut, "--format", form, "--create", "--data", place]
            one_line(command(*words), 2 if text != '{"event": "thumb"}' else 1)
        assert not new.exists() and not list(there.iterdir())


def test_a_new_store_is_whole_and_private_and_replaces_none(
    command: Command, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, new = tmp_path / "hh.jsonl", tmp_path / "new"
    file.write_text(GOOD)
    words = ["import", file, "--format", "hh", "--create", "--data"]
    assert command(*words, new).returncode == 0
    assert [path.name for path in new.iterdir()] == ["feedback.db"]
    assert stat.S_IMODE((new / "feedback.db").stat().st_mode) == 0o600
    assert "1 judgements are new" in command(*words, data).stdout
    late = tmp_path / "late"
    original = FeedbackStore.import_documents

    def beaten(store: FeedbackStore, *given: Any) -> ImportReport:
        (late / "feedback.db").write_text("theirs")
        return original(store, *given)

    monkeypatch.setattr(FeedbackStore, "import_documents", beaten)
    assert "File exists" in one_line(command(*words, late), 1)
    assert [path.name for path in late.iterdir()] == ["feedback.db"]
    assert (late / "feedback.db").read_text() == "theirs"


def test_lines_may_come_from_standard_input(
    command: Command, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for packed in (False, True):
        lines = f"{GOOD}\n".encode()
        stream = io.BytesIO(gzip.compress(lines) if packed else lines)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(stream))
        done = command("import", "-", "--format", "hh", "--data", data)
        assert f"{1 - packed} judgements are new" in done.stdout


def test_events_of_a_forgotten_rater_stay_out_and_that_is_said(
    command: Command, data: Path, tmp_path: Path
) -> None:
    file = tmp_path / "events.jsonl"
    command("export", file, "--data", data)
    command("forget", "rater-1", "--yes", "--data", data)
    done = command("import", file, "--data", data)
    assert [" ".join(line.split()) for line in done.stdout.splitlines()] == [
        "0 of 1 events were new",
        "1 left out: a rater who was forgotten here",
    ]


def test_a_data_set_is_written_as_a_folder_for_the_hub(
    command: Command, data: Path, tmp_path: Path
) -> None:
    words = ["export", tmp_path / "set", "--format", "preference", "--split", "all"]
    done = command(*words, "--hub", "--licence", "mit", "--language", "en", "--data", data)
    assert f"rows of preference written to {tmp_path / 'set'}" in one_line(done, 0)
    assert 'license: "mit"' in (tmp_path / "set" / "README.md").read_text()
    again = command(*words, "--hub", "--force", "--data", data, "--json")
    assert sum(json.loads(again.stdout)["rows"].values()) == 1
    assert "add --hub" in one_line(command(*words, "--licence", "mit", "--data", data), 2)
    assert "give one as FILE" in one_line(command("export", "--hub", "--data", data), 2)
    assert "no data set" in one_line(command("export", tmp_path / "x", "--hub", "--data", data), 2)


def test_a_table_is_imported_by_its_columns_and_a_damaged_one_not_at_all(
    command: Command, data: Path, tmp_path: Path
) -> None:
    file = tmp_path / "a.CSV"
    file.write_text("question;good;bad;by\r\nTea?;Yes.;No.;1\r\nTea?;Yes;Yes ;2\r\n")
    columns = ["--columns", "prompt=question,chosen=good,rejected=bad,rater=by", "--name", "mine"]
    words = ["import", file, "--format", "table", "--data", data]
    done = command(*words, *columns)
    assert [" ".join(line.split()) for line in done.stdout.splitlines()] == [
        "2 lines of table read: 1 judgements are new",
        "1 left out: the replies say the same",
    ]
    assert "needs them" in one_line(command(*words), 2)
    assert "'colour'" in one_line(command(*words, "--columns", "colour"), 2)
    assert "our own events" in one_line(command("import", file, "--name", "x", "--data", data), 2)
    file.write_bytes(b"question,good,bad,by\n" + b"Tea?,a,b,1\n" * 2_000 + b"Tea?,\xff,b,2\n")
    said = one_line(command(*words, *columns), 2)
    assert "a.CSV:2002: not UTF-8" in said and "Nothing was imported" in said
    with FeedbackStore(data / "feedback.db") as store:
        assert [rater.id for rater in store.raters() if "mine" in rater.id] == ["mine:1"]
