"""Every released schema can be opened, and nothing that was said in it is lost.

`released/VERSION.sql` is a dump of a small store made by that version.
"""

import hashlib
from pathlib import Path

import pytest
from sqlite_utils import Database
from sqlite_utils.utils import sqlite3

from feedback_store import FeedbackStore
from feedback_store.splits import is_held_out_question
from feedback_store.sqlite.migrations import MIGRATIONS, known_migrations

RELEASED = sorted((Path(__file__).parents[1] / "released").glob("*.sql"))
SAID = ("conversations", "messages", "thumbs", "choices", "rankings", "demonstrations")


@pytest.fixture(params=RELEASED, ids=lambda path: path.stem)
def old(request, path):
    connection = sqlite3.connect(path)
    connection.executescript(request.param.read_text())
    connection.close()
    return path


def contents(path):
    """Of each table the number of rows, and a checksum over the columns that it had at first."""
    connection = sqlite3.connect(path)
    found = {}
    for table in SAID:
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        new = {
            "path_hash",
            "text_hash",
            "prompt_hash",
            "held_out",
            "number",
            "pinned",
            "deleted_at",
            "page",
        } | ({"tags", "comment"} if table == "choices" else set())
        kept = ", ".join(f'"{name}"' for name in columns if name not in new)
        rows = connection.execute(f"SELECT {kept} FROM {table} ORDER BY id").fetchall()
        found[table] = (len(rows), hashlib.sha256(repr(rows).encode()).hexdigest())
    connection.close()
    return found


def test_what_was_said_is_kept_to_the_letter(old):
    before = contents(old)
    assert all(count for count, _ in before.values())
    with FeedbackStore(old) as store:
        assert store.verify() == []
    assert contents(old) == before


def test_raters_from_before_0010_have_no_origin_and_keep_the_rest(old):
    with Database(old) as db:
        before = list(db.query("SELECT * FROM raters ORDER BY id"))
    with FeedbackStore(old) as store, store._file.read() as db:
        after = list(db.query("SELECT * FROM raters ORDER BY id"))
    assert before and after == [
        {"held_out": 0, "reliability": 1.0, "quarantined_at": None}
        | row
        | {"origin": None, "proven": 0, "passed": None}
        for row in before
    ]


def test_choices_from_before_0018_have_no_reasons_and_can_be_given_some(old):
    with FeedbackStore(old) as store:
        made = store.choices()
        assert made and {(one.tags, one.comment) for one in made} == {((), "")}
        about = made[0].candidates_id
        said = store.explain_choice(about, made[0].rater_id, tags=["clearer"], comment="so")
        assert store.choice_of(about, made[0].rater_id) == said
        assert (said.id, said.tags, said.comment) == (made[0].id, ("clearer",), "so")


def test_what_cycles_learnt_from_is_still_known_and_not_new(old):
    with FeedbackStore(old) as store:
        store.refresh_comparisons()
        found = store.comparisons()
        assert {item.source for item in found} == {"choice", "ranking", "edit", "thumbs"}
        assert store.counts()["unused_comparisons"] == 0
        used = [use for event in store.feedback_of("ann") for use in event["comparisons"]]
        assert used
        assert all(use["cycles"] == [1] for use in used)


def test_cycles_from_before_0013_raise_no_alarm(old):
    with FeedbackStore(old) as store:
        assert store.watched_cycle() == store.last_cycle().id > 0


def test_what_is_derived_does_not_depend_on_the_way_through_an_old_version(old, tmp_path):
    with FeedbackStore(old) as store, FeedbackStore(tmp_path / "fresh.db") as fresh:
        fresh.import_events(store.export_events())
        store.refresh_comparisons()
        fresh.refresh_comparisons()
        assert store.comparisons() == fresh.comparisons()
        assert store.unpaired() == fresh.unpaired()


# (cycle, comparison, split) as cycles noted them before 0007: all that they had read
NOTED_BEFORE_0007 = [
    (1, "taught", "train"),
    (1, "measured", "held_out"),
    (1, "unused", "held_out_raters"),
    (2, "taught", "train"),
    (3, "taught", "train"),
]


@pytest.fixture
def before_0007(path):
    """A store as it was before 0007, in which cycle 1 was promoted, 2 failed and 3 was refused."""
    with Database(path) as db:
        MIGRATIONS.apply(db, stop_before="0007_used_as")
        db.execute("INSERT INTO raters (id, kind, created_at) VALUES ('ann', 'person', 'then')")
        db["cycles"].insert_all(
            {"id": number, "state": state, "stage": "done", "progress": 1.0, "pid": 1}
            | {"reasons": "[]", "metrics": "{}", "config": "{}", "started_at": "then"}
            for number, state in enumerate(("promoted", "failed", "refused"), start=1)
        )
        for cycle, name, split in NOTED_BEFORE_0007:
            db.execute(
                "INSERT OR IGNORE INTO comparisons (id, rater_id, prompt_hash, prompt_id, a, b,"
                " label, source, weight, split, event_ids, created_at)"
                " VALUES (?, 'ann', 'p', 'm', 'x', 'y', 'a', 'choice', 1, ?, '[]', 'then')",
                [name, split],
            )
            db.execute("INSERT INTO cycle_comparisons VALUES (?, ?)", [cycle, name])
    return path


def test_notes_of_use_say_how_and_those_of_what_was_not_used_go(before_0007):
    with FeedbackStore(before_0007):
        pass
    connection = sqlite3.connect(before_0007)
    noted = connection.execute("SELECT * FROM cycle_comparisons ORDER BY comparison_id").fetchall()
    comparisons = connection.execute("SELECT id FROM comparisons ORDER BY id").fetchall()
    connection.close()
    assert noted == [(1, "measured", "held_out"), (1, "taught", "train")]
    assert comparisons == [("measured",), ("taught",), ("unused",)]


# (comparison, rater, split, source, event ids, cycles that used it) before 0009
KNOWN_BEFORE_0009 = [
    ("taught", "ann", "train", "choice", '["1"]', (1,)),
    ("ranked 1", "ann", "train", "ranking", '["2"]', (1,)),
    ("ranked 2", "ann", "train", "ranking", '["2"]', (1,)),
    ("ranked 3", "ann", "train", "ranking", '["2"]', ()),  # another pair outranked it until now
    ("measured", "bob", "held_out", "choice", '["3"]', (1, 2)),
    ("never", "bob", "held_out_raters", "choice", '["4"]', ()),
    ("failed", "ann", "train", "choice", '["5"]', (2,)),
    ("waits", "ann", "held_out", "choice", '["6"]', ()),
]


@pytest.fixture
def before_0009(path):
    """A store as it was before 0009, in which cycle 1 was rejected and 2 failed with an adapter."""
    with Database(path) as db:
        MIGRATIONS.apply(db, stop_before="0009_numbers")
        for rater in ("ann", "bob"):
            db.execute(
                "INSERT INTO raters (id, kind, created_at) VALUES (?, 'simulated', 'then')", [rater]
            )
        db["cycles"].insert_all(
            {"id": number, "state": state, "stage": "done", "progress": 1.0, "pid": 1}
            | {"reasons": "[]", "metrics": "{}", "config": "{}", "started_at": "2026-03"}
            for number, state in enumerate(("rejected", "failed"), start=1)
        )
        for name, rater, split, source, events, cycles in KNOWN_BEFORE_0009:
            db.execute(
                "INSERT INTO comparisons (id, rater_id, prompt_hash, prompt_id, a, b, label,"
                " source, weight, split, event_ids, created_at)"
                " VALUES (?, ?, 'p', 'm', 'x', 'y', 'a', ?, 1, ?, ?, '2026-02')",
                [name, rater, source, split, events],
            )
            for cycle in cycles:
                db.execute("INSERT INTO cycle_comparisons VALUES (?, ?, 'train')", [cycle, name])
        for number, at in enumerate(("2026-01", "2026-05"), start=1):
            db.execute(
                "INSERT INTO unpaired VALUES (?, 'ann', 'p', 'm', 'x', 1, 'thumb', 1, 'train',"
                " ?, ?)",
                [f"thumb {number}", f"event {number}", at],
            )
            db.execute(
                "INSERT INTO demonstrations (id, rater_id, prompt, content, idempotency_key,"
                " created_at) VALUES (?, 'ann', ?, 'so', ?, ?)",
                [f"own {number}", f'[{{"role": "user", "content": "{number}?"}}]', str(number), at],
            )
    return path


def test_what_was_new_before_there_were_numbers_still_is_and_nothing_else(before_0009):
    with FeedbackStore(before_0009) as store:
        assert store.new_comparisons() == 3  # "ranked 3", "failed" and "waits"
        last, seen = store.last_numbers(), store.seen_numbers()
        assert (last["unpaired"], seen["unpaired"]) == (2, 1)
        assert (last["demonstrations"], seen["demonstrations"]) == (2, 0)  # none was promoted
        with store._file.read() as db:
            numbers = dict(db.execute("SELECT id, number FROM comparisons").fetchall())
            held_out = [row[0] for row in db.execute("SELECT held_out FROM demonstrations")]
        assert set(held_out) <= {0, 1} and held_out == [
            is_held_out_question(f"{number}?") for number in (1, 2)
        ]
    new = {name for name, number in numbers.items() if number > seen["comparisons"]}
    assert new == {"ranked 3", "failed", "waits"}
    assert numbers["ranked 1"] == numbers["ranked 2"] and len(set(numbers.values())) == 7
    assert max(numbers.values()) == last["comparisons"]


def test_migrations_are_numbered_in_order_without_gaps():
    numbers = [int(name.partition("_")[0]) for name in sorted(known_migrations())]
    assert numbers == list(range(1, len(numbers) + 1))
