"""From the schema of 0.1.0 to hashes beside texts, comparisons by reference, and unpaired thumbs.

`comparisons` can be derived again, so its table is made anew; which cycle learnt from which is a
fact, so the comparisons that a cycle used are carried over under their new ids.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

from sqlite_utils import Database

from feedback_store.splits import is_held_out_question, path_hash, prompt_hash, text_hash

SCHEMA = (
    "ALTER TABLE raters ADD COLUMN held_out INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE raters ADD COLUMN reliability REAL NOT NULL DEFAULT 1",
    "ALTER TABLE raters ADD COLUMN quarantined_at TEXT",
    # of the path up to and with the message; of its text; whether its question is held out
    "ALTER TABLE messages ADD COLUMN path_hash TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE messages ADD COLUMN text_hash TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE messages ADD COLUMN held_out INTEGER NOT NULL DEFAULT 0",
    # the label of the reply that is known to be better: a gold question of the rater, no evidence
    "ALTER TABLE candidates ADD COLUMN gold TEXT",
    # all that a derivation needs of what was shown together: the rows themselves hold long texts
    "CREATE INDEX messages_shown ON messages"
    " (candidates_id, label, id, text_hash, parent_id, held_out) WHERE candidates_id IS NOT NULL",
    "ALTER TABLE thumbs ADD COLUMN prompt_hash TEXT",
    "ALTER TABLE choices ADD COLUMN prompt_hash TEXT",
    "ALTER TABLE rankings ADD COLUMN prompt_hash TEXT",
    "ALTER TABLE demonstrations ADD COLUMN prompt_hash TEXT",
    "ALTER TABLE demonstrations ADD COLUMN text_hash TEXT NOT NULL DEFAULT ''",
    "CREATE INDEX thumbs_of_prompt ON thumbs (rater_id, prompt_hash) WHERE superseded_at IS NULL",
    "CREATE INDEX choices_of_prompt ON choices (rater_id, prompt_hash) WHERE superseded_at IS NULL",
    "CREATE INDEX rankings_of_prompt ON rankings (rater_id, prompt_hash)"
    " WHERE superseded_at IS NULL",
    "CREATE INDEX demonstrations_of_prompt ON demonstrations (rater_id, prompt_hash)"
    " WHERE superseded_at IS NULL",
    """CREATE TABLE retries (
        id TEXT PRIMARY KEY,
        message_id TEXT NOT NULL REFERENCES messages (id),
        retry_of TEXT NOT NULL REFERENCES messages (id),
        rater_id TEXT NOT NULL REFERENCES raters (id),
        idempotency_key TEXT NOT NULL,
        created_at TEXT NOT NULL,
        superseded_at TEXT,
        prompt_hash TEXT,
        UNIQUE (rater_id, idempotency_key)
    ) STRICT""",
    "CREATE INDEX retries_of_message ON retries (message_id)",
    "CREATE INDEX retries_of_old ON retries (retry_of)",
    "CREATE INDEX retries_of_prompt ON retries (rater_id, prompt_hash) WHERE superseded_at IS NULL",
    # what a rater said about a prompt has changed since comparisons were derived from it
    """CREATE TABLE stale_prompts (
        rater_id TEXT NOT NULL,
        prompt_hash TEXT NOT NULL,
        PRIMARY KEY (rater_id, prompt_hash)
    ) STRICT, WITHOUT ROWID""",
    "DROP TABLE comparison_events",
    "DROP TABLE cycle_comparisons",
    "DROP TABLE comparisons",
    # In the order in which they are derived: in that of the ids, which are hashes, neighbours would
    # be on different pages. `a` and `b` are ids of messages, or a demonstration's, for its text.
    """CREATE TABLE comparisons (
        id TEXT NOT NULL UNIQUE,
        rater_id TEXT NOT NULL REFERENCES raters (id),
        prompt_hash TEXT NOT NULL,
        prompt_id TEXT NOT NULL,
        a TEXT NOT NULL,
        b TEXT NOT NULL,
        label TEXT NOT NULL CHECK (label IN ('a', 'b', 'tie')),
        source TEXT NOT NULL
            CHECK (source IN ('choice', 'ranking', 'edit', 'thumbs', 'retry')),
        weight REAL NOT NULL CHECK (weight > 0),
        strength REAL,
        split TEXT NOT NULL CHECK (split IN ('train', 'held_out', 'held_out_raters')),
        event_ids TEXT NOT NULL,
        created_at TEXT NOT NULL,
        withdrawn_at TEXT,
        PRIMARY KEY (rater_id, prompt_hash, id)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE cycle_comparisons (
        cycle_id INTEGER NOT NULL REFERENCES cycles (id),
        comparison_id TEXT NOT NULL REFERENCES comparisons (id) ON DELETE CASCADE,
        PRIMARY KEY (cycle_id, comparison_id)
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX cycles_of_comparison ON cycle_comparisons (comparison_id)",
    """CREATE TABLE unpaired (
        id TEXT NOT NULL UNIQUE,
        rater_id TEXT NOT NULL REFERENCES raters (id),
        prompt_hash TEXT NOT NULL,
        prompt_id TEXT NOT NULL,
        message_id TEXT NOT NULL,
        good INTEGER NOT NULL CHECK (good IN (0, 1)),
        source TEXT NOT NULL CHECK (source IN ('thumb', 'both_bad')),
        weight REAL NOT NULL CHECK (weight > 0),
        split TEXT NOT NULL CHECK (split IN ('train', 'held_out', 'held_out_raters')),
        event_id TEXT NOT NULL,
        created_at TEXT NOT NULL,
        PRIMARY KEY (rater_id, prompt_hash, id)
    ) STRICT, WITHOUT ROWID""",
    "DELETE FROM bookkeeping WHERE name = 'derived_from'",
)

_REPLIES = """
    SELECT content, id, parent_id FROM messages WHERE id IN (
        SELECT message_id FROM thumbs WHERE id = :event
        UNION SELECT message_id FROM demonstrations WHERE id = :event)
    UNION ALL
    SELECT content, id, parent_id FROM messages WHERE candidates_id IN (
        SELECT candidates_id FROM choices WHERE id = :event
        UNION SELECT candidates_id FROM rankings WHERE id = :event)"""


_NEXT_MESSAGES = """SELECT rowid, id, parent_id, role, content FROM messages
    WHERE rowid > ? ORDER BY rowid LIMIT 1000"""


def carry_over(db: Database, schema: Sequence[str]) -> None:
    """Change the schema and fill what is new in it from what is there."""
    uses = list(_uses(db))
    for statement in schema:
        db.conn.execute(statement)
    _hash_messages(db)
    _hash_events(db)
    for table in ("thumbs", "choices", "rankings", "demonstrations"):
        db.conn.execute(
            f"INSERT OR IGNORE INTO stale_prompts SELECT rater_id, prompt_hash FROM {table}"
            " WHERE prompt_hash IS NOT NULL AND superseded_at IS NULL"
        )
    for comparison, cycles in uses:
        columns = ", ".join(comparison)
        places = ", ".join(f":{name}" for name in comparison)
        db.conn.execute(
            f"INSERT OR IGNORE INTO comparisons ({columns}) VALUES ({places})", comparison
        )
        db.conn.executemany(
            "INSERT OR IGNORE INTO cycle_comparisons VALUES (?, ?)",
            [(cycle, comparison["id"]) for cycle in cycles],
        )


def _uses(db: Database) -> Iterator[tuple[dict[str, Any], list[int]]]:
    """What cycles have learnt from, as rows of the new table."""
    sql = """SELECT comparisons.*,
            (SELECT json_group_array(event_id) FROM comparison_events
             WHERE comparison_id = comparisons.id) AS events,
            (SELECT json_group_array(cycle_id) FROM cycle_comparisons
             WHERE comparison_id = comparisons.id) AS cycles
        FROM comparisons WHERE id IN (SELECT comparison_id FROM cycle_comparisons)"""
    cursor = db.conn.execute(sql)
    names = [column[0] for column in cursor.description]
    for values in cursor.fetchall():
        row = dict(zip(names, values, strict=True))
        yield _new_row(db, row), json.loads(row["cycles"])


def _new_row(db: Database, row: dict[str, Any]) -> dict[str, Any]:
    events = sorted(json.loads(row["events"]))
    replies: dict[str, tuple[str, str]] = {}  # text -> (message, its parent)
    for event in events:
        for content, name, parent in db.conn.execute(_REPLIES, {"event": event}):
            replies[content] = (name, parent)
    parents = [parent for _, parent in replies.values()]
    prompt = str(prompt_hash(json.loads(row["prompt"])))
    # a text that no message has is the demonstration's, which is the event
    sides = [replies[t][0] if t in replies else events[0] for t in _texts(row)]
    return {
        "id": _new_id(row, prompt),
        "rater_id": row["rater_id"],
        "prompt_hash": prompt,
        "prompt_id": min(parents),
        "a": sides[0],
        "b": sides[1],
        **{name: row[name] for name in ("label", "source", "weight", "split")},
        "event_ids": json.dumps(events),
        "created_at": row["created_at"],
        "withdrawn_at": row["withdrawn_at"],
    }


def _texts(row: dict[str, Any]) -> tuple[str, str]:
    return row["response_a"], row["response_b"]


def _new_id(row: dict[str, Any], prompt: str) -> str:
    one, other = map(text_hash, _texts(row))
    label = row["label"]
    if one > other:
        one, other, label = other, one, {"a": "b", "b": "a", "tie": "tie"}[label]
    identity = "\n".join((row["rater_id"], prompt, one, other, label, row["source"]))
    return hashlib.sha256(identity.encode()).hexdigest()[:32]


def _hash_messages(db: Database) -> None:
    """Parents come before children: a message's parent was stored first, so its rowid is lower."""
    root = ("", is_held_out_question(""))
    last = 0
    while rows := db.conn.execute(_NEXT_MESSAGES, [last]).fetchall():  # never all texts at once
        for last, name, parent, role, content in rows:  # noqa: B007 - where the next batch begins
            sql = "SELECT path_hash, held_out FROM messages WHERE id = ?"
            above, held_out = db.conn.execute(sql, [parent]).fetchone() if parent else root
            if role == "user":
                held_out = is_held_out_question(content)
            db.conn.execute(
                "UPDATE messages SET path_hash = ?, text_hash = ?, held_out = ? WHERE id = ?",
                [path_hash(above, role, content), text_hash(content), held_out, name],
            )


def _hash_events(db: Database) -> None:
    db.conn.execute(
        "UPDATE thumbs SET prompt_hash = (SELECT parent.path_hash FROM messages"
        " JOIN messages AS parent ON parent.id = messages.parent_id"
        " WHERE messages.id = thumbs.message_id)"
    )
    for table in ("choices", "rankings"):
        db.conn.execute(
            f"UPDATE {table} SET prompt_hash = (SELECT path_hash FROM candidates"
            " JOIN messages ON messages.id = prompt_message_id"
            f" WHERE candidates.id = {table}.candidates_id)"
        )
    sql = "SELECT id, prompt, content FROM demonstrations"
    for name, prompt, content in db.conn.execute(sql).fetchall():
        db.conn.execute(
            "UPDATE demonstrations SET prompt_hash = ?, text_hash = ? WHERE id = ?",
            [prompt_hash(json.loads(prompt)), text_hash(content), name],
        )
