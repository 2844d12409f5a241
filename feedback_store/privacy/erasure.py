"""Delete conversations, or a rater, with everything that was said about them or derived from them.

Invariants: nothing is left that refers to a deleted row or quotes it; what others said about
deleted texts is deleted too, since it tells what they were; what others said elsewhere stays. Which
adapters learnt from a rater stays known after the rows are gone, until the rater is forgotten.
Everything happens in the caller's transaction. `forgetting` cleans the file's pages and the index.
"""

import json
from collections.abc import Sequence
from typing import Any

from sqlite_utils import Database
from sqlite_utils.utils import sqlite3  # type: ignore[attr-defined]  # pysqlite3, if there

from feedback_store.sqlite.ids import utc_now
from feedback_store.sqlite.migration_0003 import OLDEST_WITH_SECURE_DELETE
from feedback_store.sqlite.rows import encode, rows

# What belongs to the conversations :conversations (ids as JSON) and to the rater :rater, if any.
_CONVERSATIONS = "(SELECT value FROM json_each(:conversations))"
_MESSAGES = f"(SELECT id FROM messages WHERE conversation_id IN {_CONVERSATIONS})"
_CANDIDATES = f"""(SELECT id FROM candidates
    WHERE rater_id = :rater OR prompt_message_id IN {_MESSAGES})"""
_EVENTS = {
    "thumbs": f"rater_id = :rater OR message_id IN {_MESSAGES}",
    "choices": f"rater_id = :rater OR candidates_id IN {_CANDIDATES}",
    "rankings": f"rater_id = :rater OR candidates_id IN {_CANDIDATES}",
    "demonstrations": f"rater_id = :rater OR message_id IN {_MESSAGES}",
    "retries": f"rater_id = :rater OR message_id IN {_MESSAGES}",
}
# Only stale groups are searched: by then they include every group that the events belong to.
_STALE = "(rater_id, prompt_hash) IN (SELECT rater_id, prompt_hash FROM stale_prompts)"
_DERIVED = {
    "comparisons": f"""rater_id = :rater OR {_STALE}
        AND (a IN {_MESSAGES} OR b IN {_MESSAGES} OR prompt_id IN {_MESSAGES})""",
    "unpaired": f"""rater_id = :rater OR {_STALE}
        AND (message_id IN {_MESSAGES} OR prompt_id IN {_MESSAGES})""",
}
_VOTES = " UNION ALL ".join(f"SELECT id FROM {table} WHERE {of}" for table, of in _EVENTS.items())
_LEFT_OUT = {
    "left_out": f"""kind = 'conversation' AND id IN {_CONVERSATIONS}
        OR kind = 'vote' AND id IN ({_VOTES})""",
    "feed": f"kind IN ('thumb', 'choice', 'ranking', 'demonstration', 'retry')"
    f" AND about IN ({_VOTES})",
}
# From the leaves to the root: a row is found through those that are deleted after it.
_SAID = {
    **_EVENTS,
    "candidates": f"id IN {_CANDIDATES}",
    "messages": f"conversation_id IN {_CONVERSATIONS}",
    "conversations": f"id IN {_CONVERSATIONS}",
}
_OF_RATER = {
    "stale_prompts": "rater_id = :rater",
    "audit": "detail ->> 'rater_id' = :rater",
    "raters": "id = :rater",
}
# What a rater did to others, and where an export of them is, stays in the audit without the name.
_NAMELESS = """UPDATE audit SET detail = replace(detail, :quoted, '"forgotten"')
    WHERE instr(detail, :quoted)"""
# Which comparisons a cycle saw is noted. Of other events we know only which it could have seen.
_WHILE_IT_STOOD = """said.created_at <= coalesce(cycles.finished_at, said.created_at)
        AND coalesce(said.superseded_at, cycles.started_at) >= cycles.started_at"""
# For every row to be deleted: who said it, about whose words, and what may have learnt from it.
_NOTE_TAUGHT = f"""WITH spoken (rater_id, message_id, comparison_id, created_at, superseded_at) AS (
        SELECT rater_id, messages.id, comparisons.id, NULL, NULL FROM comparisons
            LEFT JOIN messages ON messages.id IN (prompt_id, a, b)
            WHERE {_DERIVED["comparisons"]}
        UNION ALL SELECT rater_id, message_id, NULL, created_at, superseded_at
            FROM demonstrations WHERE {_EVENTS["demonstrations"]}
        UNION ALL SELECT rater_id, message_id, NULL, created_at, superseded_at
            FROM thumbs WHERE value <> 0 AND ({_EVENTS["thumbs"]})
        UNION ALL SELECT rater_id,
            (SELECT prompt_message_id FROM candidates WHERE id = candidates_id),
            NULL, created_at, superseded_at
            FROM choices WHERE choice = 'both_bad' AND ({_EVENTS["choices"]})),
    said (rater_id, comparison_id, created_at, superseded_at) AS (
        SELECT rater_id, comparison_id, created_at, superseded_at FROM spoken
        UNION SELECT conversations.rater_id, comparison_id, spoken.created_at, superseded_at
            FROM spoken JOIN messages ON messages.id = message_id
            JOIN conversations ON conversations.id = conversation_id),
    teachers (rater_id, cycle_id) AS (
        SELECT rater_id, cycle_id FROM said
            JOIN cycle_comparisons ON cycle_comparisons.comparison_id = said.comparison_id
        UNION SELECT rater_id, cycles.id FROM said JOIN cycles ON {_WHILE_IT_STOOD}
        UNION SELECT conversations.rater_id, cycle_id FROM cycle_prompts
            JOIN messages ON messages.id = cycle_prompts.message_id
            JOIN conversations ON conversations.id = messages.conversation_id
            WHERE messages.conversation_id IN {_CONVERSATIONS})
    INSERT OR IGNORE INTO taught SELECT rater_id, adapters.name
        FROM teachers JOIN adapters ON adapters.cycle_id = teachers.cycle_id"""
# A policy is trained from its parent's weights, a reward model is not.
_TAUGHT = """WITH RECURSIVE learnt (name) AS (
        SELECT adapter FROM taught WHERE rater_id = ?
        UNION SELECT adapters.name FROM learnt JOIN adapters
            ON adapters.parent = learnt.name AND adapters.kind = 'policy')
    SELECT name FROM learnt ORDER BY name"""


def erase(
    db: Database, conversations: Sequence[str], *, rater_id: str | None = None
) -> dict[str, int]:
    """Delete conversations, and with `rater_id` that rater; count the deleted rows by table.

    Which adapters learnt from whom, as far as the deleted rows tell, is noted for `taint`.
    """
    bound = _bound(conversations, rater_id)
    execute = db.conn.execute
    execute("PRAGMA defer_foreign_keys = ON")  # messages refer to candidates and to messages
    for table, where in _EVENTS.items():  # what others said about it must be derived again
        execute(
            "INSERT OR IGNORE INTO stale_prompts SELECT rater_id, prompt_hash"
            f" FROM {table} WHERE ({where}) AND prompt_hash IS NOT NULL",
            bound,
        )
    execute(_NOTE_TAUGHT, bound)
    execute(
        f"UPDATE messages SET candidates_id = NULL, label = NULL"
        f" WHERE candidates_id IN {_CANDIDATES} AND conversation_id NOT IN {_CONVERSATIONS}",
        bound,
    )
    wanted = _LEFT_OUT | _DERIVED | _SAID | (_OF_RATER if rater_id is not None else {})
    # Removing words from the index one by one takes twenty times as long as only marking them as
    # removed; compacting drops the words and the marks.
    _secure_delete(db, on=False)
    erased = {
        table: execute(f"DELETE FROM {table} WHERE {where}", bound).rowcount
        for table, where in wanted.items()
    }
    _secure_delete(db, on=True)
    if rater_id is not None:
        execute(_NAMELESS, {"quoted": encode([rater_id])[1:-1]})
    return erased


def count(db: Database, conversations: Sequence[str]) -> dict[str, int]:
    """Count the rows of what people said that `erase` would delete."""
    bound = _bound(conversations, None)
    return {table: db.table(table).count_where(where, bound) for table, where in _SAID.items()}


def taint(db: Database, rater_id: str) -> list[str]:
    """Mark the adapters that learnt, or may have learnt, from an erased rater; return their names.

    These are the adapters that a cycle trained on the rater's comparisons, words or prompts, those
    that it may have trained on the rater's demonstrations, thumbs or "both bad", and the policies
    that descend from one of them. An adapter that was marked before keeps its time. What was noted
    about the rater is deleted.
    """
    names = [row["name"] for row in rows(db, _TAUGHT, [rater_id])]
    sql = "UPDATE adapters SET tainted_at = coalesce(tainted_at, ?) WHERE name = ?"
    db.conn.executemany(sql, [(utc_now(), name) for name in names])
    db.table("taught").delete_where("rater_id = ?", [rater_id])
    return names


def _secure_delete(db: Database, *, on: bool) -> None:
    if sqlite3.sqlite_version_info >= OLDEST_WITH_SECURE_DELETE:
        sql = "INSERT INTO message_search (message_search, rank) VALUES ('secure-delete', ?)"
        db.conn.execute(sql, [int(on)])


def _bound(conversations: Sequence[str], rater_id: str | None) -> dict[str, Any]:
    return {"conversations": json.dumps(list(conversations)), "rater": rater_id}
