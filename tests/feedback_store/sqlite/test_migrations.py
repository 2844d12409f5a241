"""Every released schema can be opened, and nothing that was said in it is lost.

`released/VERSION.sql` is a dump of a small store made by that version.
"""

import hashlib
from pathlib import Path

import pytest
from sqlite_utils import Database
from sqlite_utils.utils import sqlite3

from feedback_store import FeedbackStore
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
        new = {"path_hash", "text_hash", "prompt_hash", "held_out", "number"}
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


def test_what_cycles_learnt_from_is_still_known_and_not_new(old):
    with FeedbackStore(old) as store:
        store.refresh_comparisons()
        found = store.comparisons()
        assert {item.source for item in found} == {"choice", "ranking", "edit", "thumbs"}
        assert store.counts()["new_comparisons"] == 0
        used = [use for event in store.feedback_of("ann") for use in event["comparisons"]]
        assert used
        assert all(use["cycles"] == [1] for use in used)


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


def test_migrations_are_numbered_in_order_without_gaps():
    numbers = [int(name.partition("_")[0]) for name in sorted(known_migrations())]
    assert numbers == list(range(1, len(numbers) + 1))
