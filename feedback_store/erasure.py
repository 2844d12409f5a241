"""Deleting conversations, or all of a rater, with everything said about them and derived from them.

Invariants: what is deleted here leaves nothing behind that refers to it or quotes it; what others
said of it goes too, since it says what the deleted texts were; what others said elsewhere stays.
Everything happens in the caller's transaction. The pages, and what the index of words still says of
them, are for `privacy` to clean.
"""

import json
from collections.abc import Sequence
from typing import Any

from sqlite_utils import Database
from sqlite_utils.utils import sqlite3  # type: ignore[attr-defined]  # pysqlite3, if there

from feedback_store.migration_0003 import OLDEST_WITH_SECURE_DELETE
from feedback_store.records import BASE_ADAPTER
from feedback_store.rows import encode, rows

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
# Looked for among the stale groups only, which by then include all that the events speak of.
_STALE = "(rater_id, prompt_hash) IN (SELECT rater_id, prompt_hash FROM stale_prompts)"
_DERIVED = {
    "comparisons": f"""rater_id = :rater OR {_STALE}
        AND (a IN {_MESSAGES} OR b IN {_MESSAGES} OR prompt_id IN {_MESSAGES})""",
    "unpaired": f"""rater_id = :rater OR {_STALE}
        AND (message_id IN {_MESSAGES} OR prompt_id IN {_MESSAGES})""",
}
# From the leaves to the root, since each is found by the later ones.
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
# What a rater did to others, and where an export of theirs is, stays known without the name.
_NAMELESS = """UPDATE audit SET detail = replace(detail, :quoted, '"forgotten"')
    WHERE instr(detail, :quoted)"""
# Which comparisons a cycle saw is known; of what trains by itself, what it could have seen.
_WHILE_IT_STOOD = """said.created_at <= coalesce(cycles.finished_at, said.created_at)
        AND coalesce(said.superseded_at, cycles.started_at) >= cycles.started_at"""
_CYCLES = f"""SELECT cycle_id FROM cycle_comparisons
        JOIN comparisons ON comparisons.id = cycle_comparisons.comparison_id
        WHERE rater_id = :rater OR a IN {_MESSAGES} OR b IN {_MESSAGES} OR prompt_id IN {_MESSAGES}
    UNION SELECT cycles.id FROM cycles JOIN demonstrations AS said
        ON (said.rater_id = :rater OR said.message_id IN {_MESSAGES}) AND {_WHILE_IT_STOOD}
    UNION SELECT cycles.id FROM cycles JOIN thumbs AS said
        ON (said.rater_id = :rater OR said.message_id IN {_MESSAGES}) AND said.value <> 0
        AND {_WHILE_IT_STOOD}
    UNION SELECT cycles.id FROM cycles JOIN choices AS said
        ON (said.rater_id = :rater OR said.candidates_id IN {_CANDIDATES})
        AND said.choice = 'both_bad' AND {_WHILE_IT_STOOD}"""
# A policy goes on from its parent's weights; a reward model is trained afresh.
_ADAPTERS = f"""WITH RECURSIVE learnt (name) AS (
        SELECT adapters.name FROM adapters JOIN ({_CYCLES}) AS used
            ON used.cycle_id = adapters.cycle_id
        UNION SELECT adapters.name FROM learnt JOIN adapters
            ON adapters.parent = learnt.name AND adapters.kind = 'policy')
    SELECT name FROM learnt WHERE name <> '{BASE_ADAPTER}' ORDER BY name"""


def erase(
    db: Database, conversations: Sequence[str], *, rater_id: str | None = None
) -> dict[str, int]:
    """Delete conversations, and with `rater_id` that rater; return the rows deleted by table."""
    bound = _bound(conversations, rater_id)
    execute = db.conn.execute
    execute("PRAGMA defer_foreign_keys = ON")  # messages refer to candidates and to messages
    for table, where in _EVENTS.items():  # the others who spoke of it
        execute(
            "INSERT OR IGNORE INTO stale_prompts SELECT rater_id, prompt_hash"
            f" FROM {table} WHERE ({where}) AND prompt_hash IS NOT NULL",
            bound,
        )
    execute(
        f"UPDATE messages SET candidates_id = NULL, label = NULL"
        f" WHERE candidates_id IN {_CANDIDATES} AND conversation_id NOT IN {_CONVERSATIONS}",
        bound,
    )
    wanted = _DERIVED | _SAID | (_OF_RATER if rater_id is not None else {})
    # Taking words out of the index one by one takes twenty times as long as leaving marks that
    # they are gone; compacting drops both.
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
    """How much of what was said `erase` would delete."""
    bound = _bound(conversations, None)
    return {
        table: rows(db, f"SELECT count(*) AS found FROM {table} WHERE {where}", bound)[0]["found"]
        for table, where in _SAID.items()
    }


def taught(db: Database, conversations: Sequence[str], rater_id: str) -> list[str]:
    """The adapters whose weights learnt, or may have learnt, from a rater, sorted by name.

    Those that a cycle trained on the rater's comparisons or words, those that it may have trained
    on the rater's demonstrations, thumbs or "both bad", and the policies that descend from any.
    """
    return [row["name"] for row in rows(db, _ADAPTERS, _bound(conversations, rater_id))]


def _secure_delete(db: Database, *, on: bool) -> None:
    if sqlite3.sqlite_version_info >= OLDEST_WITH_SECURE_DELETE:
        sql = "INSERT INTO message_search (message_search, rank) VALUES ('secure-delete', ?)"
        db.conn.execute(sql, [int(on)])


def _bound(conversations: Sequence[str], rater_id: str | None) -> dict[str, Any]:
    return {"conversations": json.dumps(list(conversations)), "rater": rater_id}
