import json
import stat
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import datasets
import pyarrow.parquet as pq
import pytest
from sqlite_utils import Database

from feedback_store import (
    CandidateReply,
    ConflictError,
    FeedbackStore,
    InvalidFeedbackError,
    StoreUnavailableError,
)
from feedback_store.datasets.files import read_documents
from feedback_store.datasets.outputs import write_lines
from feedback_store.datasets.trl_rows import METADATA, ExportOptions
from feedback_store.whole_files import new_file

ROOT = Path(__file__).parents[3]
FORMS = ("preference", "unpaired", "sft", "prompts")


def user(text):
    return {"role": "user", "content": text}


def said(text):
    return {"role": "assistant", "content": text}


@pytest.fixture
def told(store, ann, bob):
    """A store with something for every format."""
    ann.choose(ann.shown("capital of France?", "Lyon", "Paris"), "b")
    ann.choose(ann.shown("tea or coffee?", "tea", "coffee"), "tie")
    reply = bob.reply(bob.ask("hello"), "go away")
    bob.thumb(reply, -1)
    store.add_demonstration(bob.rater, "hi!", message_id=reply.id, idempotency_key="d1")
    store.add_demonstration(ann.rater, "May", prompt=[user("a month?")], idempotency_key="d2")
    store.refresh_comparisons()
    return store


def rows(store, form, **options):
    """Of all splits, unless one is named."""
    if form != "events":
        options = {"split": "all", **options}
    return list(store.export_rows(form, ExportOptions(**options)))


def test_preferences_leave_ties_out_and_count_them(told):
    left_out = Counter()
    found = list(told.export_rows("preference", ExportOptions(split="all"), left_out=left_out))
    assert {
        "prompt": [user("capital of France?")],
        "chosen": [said("Paris")],
        "rejected": [said("Lyon")],
    } in found
    assert len(found) == 2 and left_out == {"ties": 1}


def test_pairs_that_a_reader_cannot_tell_apart_are_no_preferences(told, ann):
    before = rows(told, "preference")
    ann.choose(ann.shown("a drink?", "tea", " tea\u200b\n"), "a")
    told.refresh_comparisons()
    left_out = Counter()
    options = ExportOptions(split="all")
    assert list(told.export_rows("preference", options, left_out=left_out)) == before
    assert left_out == {"ties": 1, "pairs that a reader cannot tell apart": 1}


def test_a_strength_that_is_no_number_is_written_as_null(told, ann, path):
    ann.choose(ann.shown("a drink?", "tea", "mud"), "a")
    told.refresh_comparisons()
    with told._file.write() as db:  # as an import of an earlier version could leave it
        for table in ("choices", "comparisons"):
            db.execute(f"UPDATE {table} SET strength = 9e999")
    for name in ("a.jsonl", "a.jsonl.gz", "a.parquet"):
        options = ExportOptions(split="all", with_metadata=True)
        told.export_file(path.with_name(name), "preference", options)
        found = [row for _, row in read_documents(path.with_name(name))]
        assert len(found) == 3 and {row["strength"] for row in found} == {None}


def test_unpaired_rows_are_thumbs_and_demonstrations_are_whole_conversations(told):
    thumb = {"prompt": [user("hello")], "completion": [said("go away")], "label": False}
    assert rows(told, "unpaired") == [thumb]
    assert rows(told, "sft") == [
        {"messages": [user("hello"), said("hi!")]},
        {"messages": [user("a month?"), said("May")]},
    ]


def test_every_prompt_is_exported_once_in_the_order_of_asking(told, bob):
    bob.ask("Capital  of FRANCE?")
    assert rows(told, "prompts") == [
        {"prompt": [user(text)]} for text in ("capital of France?", "tea or coffee?", "hello")
    ]


@pytest.mark.parametrize("form", FORMS)
def test_nobody_without_consent_or_in_quarantine_appears(told, ann, form, path):
    ann.thumb(ann.reply(ann.ask("and?"), "so"), 1)
    told.refresh_comparisons()

    def raters():
        return {row["rater"] for row in rows(told, form, with_metadata=True)}

    assert raters() == {"ann", "bob"}
    told.set_consent("bob", None)
    assert raters() == {"ann"}
    with told._file.write() as db:
        db.execute("UPDATE raters SET quarantined_at = '2026-01-01' WHERE id = 'ann'")
    assert raters() == set()


def test_the_filters_take_what_they_name(told, ann):
    shown = told.add_candidates(
        ann.ask("new?").id,
        [
            CandidateReply("x", adapter="policy-000007"),
            CandidateReply("y", adapter="policy-000001"),
        ],
        rater_id="ann",
    )[0]
    ann.choose(shown, "a")
    told.refresh_comparisons()
    everything = rows(told, "preference", with_metadata=True)

    def ids(**options):
        return {row["id"] for row in rows(told, "preference", with_metadata=True, **options)}

    def where(column, test):
        return {row["id"] for row in everything if test(row[column])}

    for options, expected in (
        ({"split": "train"}, where("split", "train".__eq__)),
        ({"source": "edit"}, where("source", "edit".__eq__)),
        ({"source": "ranking"}, set()),
    ):
        assert ids(**options) == expected
    assert [row["chosen"] for row in rows(told, "preference", adapter="policy-000007")] == [
        [said("x")]
    ]
    assert len(rows(told, "sft", adapter="policy-000000")) == 1
    assert len(rows(told, "unpaired", adapter="policy-000000")) == 1


def test_an_unreliable_raters_rows_have_less_weight(told):
    with told._file.write() as db:
        db.execute("UPDATE raters SET reliability = 0.25 WHERE id = 'bob'")
    for form in FORMS:
        found = [row for row in rows(told, form, with_metadata=True) if row["rater"] == "bob"]
        assert found and {row["weight"] for row in found} == {0.25}


@pytest.mark.parametrize(
    ("form", "options", "says"),
    [
        ("preferences", {}, "'preferences'"),
        ("preference", {"split": "test"}, "'test'"),
        ("prompts", {"adapter": "policy-000001"}, "'adapter'"),
        ("events", {"split": "train"}, "'split'"),
        ("events", {"source": "choice"}, "'source'"),
    ],
)
def test_an_option_that_does_not_fit_is_refused_at_once(told, form, options, says):
    with pytest.raises(InvalidFeedbackError, match=says):
        told.export_rows(form, ExportOptions(**options))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("metadata", [False, True])
def test_lines_and_parquet_hold_the_same_and_load_as_data_sets(told, tmp_path, form, metadata):
    options = ExportOptions(split="all", with_metadata=metadata)
    expected = list(told.export_rows(form, options))
    for suffix, kind in (("jsonl", "json"), ("parquet", "parquet")):
        file = tmp_path / f"{form}.{suffix}"
        assert told.export_file(file, form, options).rows == len(expected)
        loaded = datasets.load_dataset(
            kind, data_files=str(file), split="train", cache_dir=str(tmp_path / "cache")
        )
        assert loaded.to_list() == expected
        assert (set(METADATA) <= set(loaded.column_names)) == metadata


@pytest.mark.parametrize(
    ("form", "options", "says"),
    [
        ("preference", {"source": "bogus"}, "'bogus'.*'choice', 'ranking'.*'retry'"),
        ("preference", {"source": "thumb"}, "'thumb'; use one of.*'thumbs'"),
        ("unpaired", {"source": "choice"}, "'thumb', 'both_bad'"),
        ("sft", {"source": "written"}, "'edit', 'demonstration'"),
        ("preference", {"adapter": "policy-999999"}, "no adapter 'policy-999999'"),
    ],
)
def test_a_filter_that_names_what_there_is_not_is_refused(told, tmp_path, form, options, says):
    with pytest.raises(InvalidFeedbackError, match=says):
        told.export_rows(form, ExportOptions(**options))
    with pytest.raises(InvalidFeedbackError, match=says):
        told.export_file(tmp_path / "data.jsonl", form, ExportOptions(**options))
    assert told.copies() == []


def test_the_pairs_of_a_ranking_have_its_id_beside_them(store, ann):
    replies = [CandidateReply(f"reply {number}") for number in range(9)]
    shown, _ = store.add_candidates(ann.ask("Which order?").id, replies, rater_id=ann.rater)
    order = [["i"], ["a", "b"], *map(list, "cdefgh")]
    made = store.add_ranking(shown, ann.rater, order, idempotency_key=ann.key())
    ann.choose(ann.shown("Which one?", "this", "that"), "a")
    store.refresh_comparisons()
    found = rows(store, "preference", split="all", with_metadata=True)
    assert Counter(row["ranking"] for row in found) == {made.id: 35, None: 1}, "one pair is a tie"
    best = [row for row in found if row["chosen"][0]["content"] == "reply 8"]
    assert len(best) == 8 and {row["prompt"][0]["content"] for row in best} == {"Which order?"}


def test_an_adapter_that_only_messages_name_is_known(told):
    prompt = told.add_message(told.conversations("ann")[0].id, "user", "elsewhere?")
    replies = [CandidateReply("yes", adapter="theirs"), CandidateReply("no")]
    told.add_candidates(prompt.id, replies, rater_id="ann")
    assert rows(told, "preference", adapter="theirs") == []
    assert rows(told, "prompts", source="chat") == rows(told, "prompts")


@pytest.mark.parametrize("name", ["data.jsonl", "data.parquet"])
@pytest.mark.parametrize("form", FORMS)
def test_an_empty_data_set_is_not_written_and_replaces_nothing(told, tmp_path, form, name):
    file, nobodys = tmp_path / name, ExportOptions(split="held_out_raters")
    file.write_text("old")
    with pytest.raises(ConflictError, match=f"0 rows of {form} fit"):
        told.export_file(file, form, nobodys, replace=True)
    assert [path.name for path in tmp_path.glob("*data*")] == [name]
    assert file.read_text() == "old" and told.copies() == []


def test_an_export_of_no_events_is_an_empty_file(store, tmp_path):
    assert store.export_file(tmp_path / "none.jsonl", "events").rows == 0
    assert (tmp_path / "none.jsonl").read_text() == ""


def test_a_file_is_private_whole_and_noted_in_the_audit_table(told, tmp_path, path):
    file = tmp_path / "new" / "data.jsonl"
    report = told.export_file(file, "preference", ExportOptions(split="all", source="choice"))
    assert (report.path, report.rows, report.left_out) == (file.resolve(), 1, {"ties": 1})
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [f.name for f in file.parent.iterdir()] == ["data.jsonl"]
    with Database(path) as db:
        detail = [json.loads(row["detail"]) for row in db["audit"].rows_where("action = 'export'")]
    noted = {
        "path": str(file.resolve()),
        "format": "preference",
        "split": "all",
        "source": "choice",
    }
    assert detail == [noted]


def test_an_export_that_fails_leaves_the_old_file_and_no_other(told, tmp_path, monkeypatch):
    file = tmp_path / "data.jsonl"
    file.write_text("old")

    def broken(_):
        yield {"half": 1, "rater": {"id": "ann"}}
        raise StoreUnavailableError("feedback.db did not answer; try again.")

    monkeypatch.setattr(FeedbackStore, "export_events", broken)
    with pytest.raises(StoreUnavailableError, match="did not answer"):
        told.export_file(file, "events", replace=True)
    assert file.read_text() == "old"
    assert not list(tmp_path.glob(".data*"))


def test_a_file_that_is_there_is_replaced_only_on_request(told, tmp_path):
    file = tmp_path / "data.jsonl"
    file.write_text("old")
    with pytest.raises(ConflictError, match=r"data\.jsonl exists"):
        told.export_file(file, "preference")
    assert file.read_text() == "old" and told.copies() == []
    assert told.export_file(file, "events", replace=True).rows == 5
    assert len(file.read_text().splitlines()) == 5


def test_a_file_that_somebody_else_writes_meanwhile_stays(told, tmp_path, monkeypatch):
    file = tmp_path / "data.jsonl"
    original = FeedbackStore.export_events

    def slow(store):
        yield from original(store)
        file.write_text("theirs")

    monkeypatch.setattr(FeedbackStore, "export_events", slow)
    with pytest.raises(ConflictError, match="exists"):
        told.export_file(file, "events")
    assert file.read_text() == "theirs"
    assert [path.name for path in tmp_path.glob("*data*")] == ["data.jsonl"]


def test_two_threads_that_write_one_file_at_once_do_not_mix(tmp_path):
    file, together = tmp_path / "data.jsonl", Barrier(2, timeout=30)

    def write(text):
        def publish(partial):
            together.wait()
            assert partial.read_text() == f'{{"said": "{text}"}}\n' * 1_000
            partial.replace(file)

        with new_file(file, publish) as partial:
            together.wait()
            write_lines(partial, ({"said": text} for _ in range(1_000)))

    with ThreadPoolExecutor() as threads:
        list(threads.map(write, ("tea", "coffee")))
    assert len(set(file.read_text().splitlines())) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["data.jsonl"]


@pytest.mark.parametrize("form", FORMS)
def test_a_data_set_is_of_the_training_split_unless_another_is_named(store, ann, tmp_path, form):
    for number in range(40):
        ann.choose(ann.shown(f"what is {number}?", "x", "y"), "a")
        ann.thumb(ann.reply(ann.ask(f"and {number}?"), "z"), 1)
        asked = [user(f"write {number}")]
        store.add_demonstration("ann", "line", prompt=asked, idempotency_key=f"d{number}")
    store.refresh_comparisons()

    def found(split):
        options = ExportOptions(split=split, with_metadata=True)
        return list(store.export_rows(form, options))

    default, everything = found(None), found("all")
    assert {row["split"] for row in default} == {"train"}
    assert default == found("train") and len(default) < len(everything)
    assert {row["split"] for row in everything} == {"train", "held_out"}
    assert len(default) + len(found("held_out")) == len(everything)
    assert store.export_file(tmp_path / "data.jsonl", form).rows == len(default)


def test_what_cannot_be_written_is_said(told, tmp_path):
    with pytest.raises(InvalidFeedbackError, match="not a regular file"):
        told.export_file("/dev/null", "events")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailableError, match="cannot write"):
        told.export_file(tmp_path / "file" / "data.jsonl", "events")
    with pytest.raises(InvalidFeedbackError, match=r"events\.parquet"):
        told.export_file(tmp_path / "events.parquet", "events")


@pytest.mark.parametrize("place", [".", "file/data.jsonl", "x.parquet"])
def test_an_export_that_is_refused_is_not_noted(told, tmp_path, place):
    (tmp_path / "file").write_text("")
    (tmp_path / "x.parquet").mkdir()
    with pytest.raises((InvalidFeedbackError, StoreUnavailableError)):
        told.export_file(tmp_path / place, "preference")
    assert told.copies() == []


def test_an_export_is_noted_before_its_first_row_is_written(told, tmp_path, monkeypatch):
    noted = []
    original = FeedbackStore.export_events

    def watched(store):
        noted.extend(copy.path for copy in store.copies())
        yield from original(store)

    monkeypatch.setattr(FeedbackStore, "export_events", watched)
    told.export_file(tmp_path / "data.jsonl", "events")
    assert noted == [str((tmp_path / "data.jsonl").resolve())]


def test_an_export_is_dropped_if_a_rater_is_forgotten_meanwhile(told, tmp_path, monkeypatch):
    original = FeedbackStore.export_events

    def slow(store):
        yield from original(store)
        store.forget("bob")

    monkeypatch.setattr(FeedbackStore, "export_events", slow)
    with pytest.raises(ConflictError, match="export again"):
        told.export_file(tmp_path / "data.jsonl", "events")
    assert not list(tmp_path.glob("*data*"))


def test_a_large_parquet_file_has_groups_of_a_thousand_rows(store, ann, tmp_path):
    asked = ann.ask("again?")
    with store._file.write():
        for number in range(1_001):
            reply = ann.reply(asked, f"reply {number}")
            ann.thumb(reply, 1)
    store.refresh_comparisons()
    file = tmp_path / "data.parquet"
    assert store.export_file(file, "unpaired", ExportOptions(split="all")).rows == 1_001
    metadata = pq.ParquetFile(file).metadata
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [1_000, 1]


# Prints by how many MB memory grew during an export of the store argv[1] to argv[2].
GROWTH = """
import re, sys
import pyarrow.parquet
from feedback_store import FeedbackStore

def peak():  # not getrusage's: that one begins at what the parent had
    status = open("/proc/self/status").read()
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", status)[1]) / 1024

with FeedbackStore(sys.argv[1]) as store:
    before = peak()
    print(store.export_file(sys.argv[2], sys.argv[3]).rows, peak() - before)
"""


def fill(store, comparisons):
    """Many choices with replies of some length, straight into the tables."""
    words = " ".join(["word"] * 60)
    rater = store.add_rater("many", consent="1")
    conversation = store.add_conversation(rater.id).id
    for start in range(0, comparisons, 5_000):
        with store._file.write() as db:
            prompts, replies, pairs = [], [], []
            for i in range(start, min(start + 5_000, comparisons)):
                prompts.append((f"p{i}", conversation, None, "user", f"question {i}? {words}"))
                for side in "ab":
                    replies.append(
                        (f"{side}{i}", conversation, f"p{i}", "assistant", f"{side} {i} {words}")
                    )
                pairs.append((f"{i:032x}", f"p{i}", f"a{i}", f"b{i}"))
            db.conn.executemany(
                "INSERT INTO messages"
                " (id, conversation_id, parent_id, role, content, created_at, path_hash)"
                " VALUES (?, ?, ?, ?, ?, '2026-01-01T00:00:00.000Z', hex(randomblob(8)))",
                prompts + replies,
            )
            db.conn.executemany(
                "INSERT INTO comparisons (id, rater_id, prompt_hash, prompt_id, a, b, label,"
                " source, weight, split, event_ids, created_at)"
                " VALUES (?, 'many', 'h', ?, ?, ?, 'a', 'choice', 1, 'train', '[]', '2026-01-01')",
                pairs,
            )


def growth(path, file, form):
    done = subprocess.run(
        [sys.executable, "-c", GROWTH, str(path), str(file), form],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    count, megabytes = done.stdout.split()
    return int(count), float(megabytes)


def test_memory_does_not_grow_with_a_small_export(store, path, tmp_path):
    fill(store, 2_000)
    count, megabytes = growth(path, tmp_path / "data.parquet", "preference")
    assert count == 2_000 and megabytes < 200


@pytest.fixture(scope="module")
def two_hundred_thousand(tmp_path_factory):
    path = tmp_path_factory.mktemp("large") / "feedback.db"
    with FeedbackStore(path) as store:
        fill(store, 200_000)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
@pytest.mark.parametrize("form", ["preference", "prompts"])
def test_two_hundred_thousand_comparisons_are_exported_within_200_mb(
    two_hundred_thousand, tmp_path, suffix, form
):
    count, megabytes = growth(two_hundred_thousand, tmp_path / f"data.{suffix}", form)
    assert count == 200_000 and megabytes < 200
