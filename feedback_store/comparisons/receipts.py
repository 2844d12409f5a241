"""Receipts: what became of each event of a rater, or why it was left out.

An event becomes comparisons, a judgement of one reply by itself, or nothing. Then `left_out` says
why, in words for the rater. An event that nothing was derived from yet has none of the three. Each
comparison says which cycles used it, how, and what the adapter of each is now.
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlite_utils import Database

from feedback_store.comparisons.opinions import seen_numbers
from feedback_store.comparisons.refresh import RETRY_ACCEPTED
from feedback_store.feedback.conversation_list import ABOUT
from feedback_store.feedback.events import (
    EVENT_TABLES,
    KINDS_HEARD,
    LEFT_OUT_VOTES,
    SCREENED,
    STORES_OWN,
    owners_agree,
)
from feedback_store.splits import split_of
from feedback_store.sqlite.database import SQLiteFile
from feedback_store.sqlite.rows import Row, decode, encode, first, require, rows

SUPERSEDED = "changed or taken back later"
DELETED = "you deleted the conversation"
WITHDRAWAL = "it takes an earlier vote back"
NO_CONSENT = "you do not agree at present that the model learns from what you say"
QUARANTINED = "held back until an operator has looked at this account's judgements"
MUTED = "it contradicts what others say too often"
NOT_SCREENED = "you have not passed the test of this service's team"
PROGRAM = "a program's votes are kept apart from people's"
OWNER = "the owner of the conversation has not agreed that the model learns from it"
LEFT_OUT = "the operator does not use it for training"
TEST = "used to test the service, not to teach it"
NO_PROMPT = "the response answers no message"
IDENTICAL = "the responses say the same"
NOT_ACCEPTED = "you neither liked the new response nor went on from it"
OUTRANKED = "a more direct or later judgement of the same responses counts"


# What a rater said and stands by. A retry that the rater says nothing of is a vote only if
# something was derived from it: else the new response was neither liked nor gone on from.
_SAID = {
    "thumb": ("thumbs", "message_id", "comment", "''", "AND value <> 0"),
    "choice": ("choices", "candidates_id", "comment", "''", ""),
    "ranking": ("rankings", "candidates_id", "''", "''", ""),
    "demonstration": ("demonstrations", "message_id", "''", "content", ""),
    "retry": (
        *("retries", "message_id", "''", "''"),
        """AND (than_before IS NOT NULL OR EXISTS (SELECT 1 FROM comparisons AS derived
            WHERE derived.rater_id = retries.rater_id
            AND derived.prompt_hash = retries.prompt_hash
            AND derived.event_ids = json_array(retries.id)))""",
    ),
}
_STANDING = " UNION ALL ".join(
    f"""SELECT '{kind}' AS kind, id, created_at, {about} AS about, {comment} AS comment,
        {content} AS content FROM {table}
    WHERE rater_id = :rater AND superseded_at IS NULL {only}"""
    for kind, (table, about, comment, content, only) in _SAID.items()
)
_TAUGHT = f"""WITH standing AS MATERIALIZED (SELECT id FROM ({_STANDING}))
    SELECT count(DISTINCT event.value) AS taught FROM comparisons
    CROSS JOIN cycle_comparisons AS used ON used.comparison_id = comparisons.id
        AND used.cycle_id = (SELECT cycle_id FROM adapters WHERE name = :adapter)
    CROSS JOIN json_each(event_ids) AS event
    WHERE rater_id = :rater AND used_as = 'train' AND event.value IN standing"""
ALL = -1  # for SQLite: no limit


class Receipts:
    """The receipts of a store."""

    _file: SQLiteFile

    def feedback_of(
        self,
        rater_id: str,
        *,
        conversation_id: str | None = None,
        ids: Sequence[str] | None = None,
    ) -> list[dict[str, Any]]:
        """A rater's receipts, oldest first: each event with what became of it.

        With `conversation_id` only those about it, with `ids` only these events, which costs no
        more than there are of them.

        Returns:
            The event's columns; `comparisons`, each with its `cycles`, `adapters` and `uses`, and
            `passed_over`: a cycle looked at more than it takes, and has not drawn it so far;
            `unpaired`, whether it judges one response by itself; `left_out`, why it counts for
            nothing, or None. An unpaired event and a demonstration have a `split`. A choice in a
            trial has a `trial`: its `kind`, `adapter`, `other`, `outcome`, None while it is open,
            and whether it `counts` there: only the first choice does, however it was changed.
            A use has the `cycle`, its `state`, its `adapter` or None, `used_as` (see
            `use_comparisons`), and `adapter_is`: "served" now, "built_on" (the served one was
            trained from it), "rolled_back", "never_served", or None without an adapter.
        """
        with self._file.read() as db:
            rater = require(db, "raters", rater_id)
            some = {"conversation": conversation_id, "ids": None if ids is None else encode(ids)}
            said = {name: _events(db, name, rater_id, some) for name in EVENT_TABLES}
            about = None
            if conversation_id is not None or ids is not None:
                about = sorted({row["prompt_hash"] or "" for all_ in said.values() for row in all_})
            became = _comparisons(db, rater_id, about)
            unpaired, trials = _unpaired(db, rater_id, about), _trials(db, said["choice"])
            omitted = {row["id"] for row in rows(db, f"SELECT id FROM {LEFT_OUT_VOTES}")}
            receipts = []
            for name, found in said.items():
                for row in found:
                    comparisons, alone = became[row["id"]], row["id"] in unpaired
                    counts = alone or any(c["withdrawn_at"] is None for c in comparisons)
                    receipt: dict[str, Any] = {"event": name}
                    receipt |= {k: v for k, v in decode(row).items() if k not in STORES_OWN}
                    receipt |= {"comparisons": comparisons, "unpaired": alone}
                    why = _why_left_out(db, rater, name, row, counts=counts)
                    if row["id"] in omitted and row["superseded_at"] is None:
                        why = LEFT_OUT
                    receipt["left_out"] = why
                    if row["id"] in trials:
                        receipt["trial"] = trials[row["id"]]
                    if alone:
                        receipt["split"] = unpaired[row["id"]]
                    elif name == "demonstration":
                        held_out = bool(rater["held_out"])
                        receipt["split"] = split_of(receipt["prompt"], held_out_rater=held_out)
                    receipts.append(receipt)
        return sorted(receipts, key=lambda receipt: (receipt["created_at"], receipt["id"]))

    def standing_votes(
        self, rater_id: str, kind: str | None = None, *, limit: int = ALL, offset: int = 0
    ) -> list[Row]:
        """What a rater said and stands by, newest first: a line each, without what became of it.

        Returns:
            Of each its `kind` (one of `EVENT_TABLES`), `id`, `created_at`, what it is `about` (a
            message or candidates, or None), its `comment`, and its `content`, the rater's own text.
        """
        sql = f"""SELECT * FROM ({_STANDING}) WHERE :kind IS NULL OR kind = :kind
            ORDER BY created_at DESC, id DESC LIMIT :limit OFFSET :offset"""
        bound = {"rater": rater_id, "kind": kind, "limit": limit, "offset": offset}
        with self._file.read() as db:
            return rows(db, sql, bound)

    def standing_count(self, rater_id: str) -> dict[str, int]:
        """How many there are in `standing_votes`, by kind."""
        sql = f"SELECT kind, count(*) AS votes FROM ({_STANDING}) GROUP BY kind"
        with self._file.read() as db:
            return {row["kind"]: row["votes"] for row in rows(db, sql, {"rater": rater_id})}

    def taught(self, rater_id: str, adapter: str) -> int:
        """How many of the votes that a rater stands by trained a policy adapter."""
        with self._file.read() as db:
            return int(rows(db, _TAUGHT, {"rater": rater_id, "adapter": adapter})[0]["taught"])


def _events(db: Database, name: str, rater_id: str, some: Row) -> list[Row]:
    table, where = EVENT_TABLES[name], "rater_id = :rater"
    if some["conversation"] is not None:
        where += f" AND {ABOUT[table]}"
    if some["ids"] is not None:  # by their ids, and not by all that the rater said
        where = "id IN (SELECT value FROM json_each(:ids)) AND +rater_id = :rater"
    return rows(db, f"SELECT * FROM {table} WHERE {where}", {"rater": rater_id, **some})


def _of(rater_id: str, prompts: Sequence[str] | None) -> tuple[str, dict[str, str]]:
    """SQL for what was derived from a rater's events, all or those on some prompts."""
    where, bound = "rater_id = :rater", {"rater": rater_id, "prompts": json.dumps(prompts)}
    if prompts is not None:
        where += " AND prompt_hash IN (SELECT value FROM json_each(:prompts))"
    return where, bound


def _unpaired(db: Database, rater_id: str, prompts: Sequence[str] | None) -> dict[str, str]:
    """The split of each judgement of one response, by its event."""
    where, bound = _of(rater_id, prompts)
    found = rows(db, f"SELECT event_id, split FROM unpaired WHERE {where}", bound)
    return {row["event_id"]: row["split"] for row in found}


def _trials(db: Database, choices: Sequence[Row]) -> dict[str, Row]:
    """The trial that each of these choices belongs to, if it does."""
    sql = """SELECT choices.id AS event, trials.kind, trials.adapter, trials.other, outcome,
            choices.id = (SELECT id FROM choices AS made WHERE made.candidates_id = candidates.id
                AND made.rater_id = candidates.rater_id ORDER BY created_at, id LIMIT 1) AS counts
        FROM json_each(:ids) AS wanted CROSS JOIN choices ON choices.id = wanted.value
        JOIN candidates ON candidates.id = candidates_id JOIN trials ON trials.id = trial_id"""
    ids = json.dumps([row["id"] for row in choices])
    found = rows(db, sql, {"ids": ids})
    return {row.pop("event"): row | {"counts": bool(row["counts"])} for row in found}


def _comparisons(
    db: Database, rater_id: str, prompts: Sequence[str] | None
) -> dict[str, list[Row]]:
    """The comparisons that each of a rater's events became, by the event's id."""
    where, bound = _of(rater_id, prompts)
    sql = f"""SELECT id, label, source, split, withdrawn_at, event_ids, number, (
            SELECT json_group_array(json_object(
                'cycle', cycle_id, 'state', state, 'adapter', adapter, 'used_as', used_as)) FROM (
                SELECT cycle_comparisons.cycle_id, cycles.state, used_as,
                    coalesce(adapter, name) AS adapter FROM cycle_comparisons
                JOIN cycles ON cycles.id = cycle_comparisons.cycle_id
                LEFT JOIN adapters  -- a cycle that died may have made one before it could say so
                    ON adapters.cycle_id = cycles.id AND adapters.kind = 'policy'
                WHERE comparison_id = comparisons.id ORDER BY 1)) AS uses
        FROM comparisons WHERE {where} ORDER BY id"""
    found: dict[str, list[Row]] = defaultdict(list)
    adapter_is, seen = _adapters_now(db), seen_numbers(db)["comparisons"]
    for row in rows(db, sql, bound):
        uses = json.loads(row["uses"])
        row["uses"] = [use | {"adapter_is": adapter_is.get(use["adapter"])} for use in uses]
        row["passed_over"] = row.pop("number") <= seen and not uses
        row["cycles"] = [use["cycle"] for use in uses]
        row["adapters"] = [use["adapter"] for use in uses if use["adapter"] is not None]
        for event_id in json.loads(row.pop("event_ids")):
            found[event_id].append(row)
    return found


def _adapters_now(db: Database) -> dict[str, str]:
    """Whether each policy adapter, or an adapter that was trained from it, is served now."""
    sql = """WITH RECURSIVE line (name, standing) AS (
            SELECT adapter, 'served' FROM (SELECT adapter FROM serving ORDER BY id DESC LIMIT 1)
            UNION SELECT parent, 'built_on' FROM line JOIN adapters USING (name)
                WHERE parent IS NOT NULL)
        SELECT name, coalesce(
                (SELECT standing FROM line WHERE line.name = adapters.name),
                iif(name IN (SELECT adapter FROM serving), 'rolled_back', 'never_served')) AS is_now
        FROM adapters WHERE kind = 'policy'"""
    return {row["name"]: row["is_now"] for row in rows(db, sql)}


def _why_left_out(db: Database, rater: Row, name: str, row: Row, *, counts: bool) -> str | None:
    if row.get("value") == 0:
        return WITHDRAWAL
    if row["superseded_at"] is not None:
        return DELETED if row["superseded_at"] == _deleted_at(db, row) else SUPERSEDED
    if (unheard := _why_unheard(db, rater)) is not None:
        return unheard
    if not _owner_agrees(db, row):
        return OWNER
    if counts or (name == "demonstration" and row["message_id"] is None):
        return None
    if row["prompt_hash"] is None:
        return TEST if "candidates_id" in row else NO_PROMPT
    if first(
        db,
        "SELECT 1 FROM stale_prompts WHERE rater_id = ? AND prompt_hash = ?",
        [row["rater_id"], row["prompt_hash"]],
    ):
        return None  # nothing was derived yet
    return _why_nothing_was_derived(db, name, row)


def _why_unheard(db: Database, rater: Row) -> str | None:
    """Why nothing that a rater says counts; None if it does."""
    if rater["kind"] == "person" and rater["consent"] is None:
        return NO_CONSENT
    if rater["quarantined_at"] is not None:
        return QUARANTINED
    for condition, why in ((SCREENED, NOT_SCREENED), (f"kind IN {KINDS_HEARD}", PROGRAM)):
        if first(db, f"SELECT 1 FROM raters WHERE id = ? AND {condition}", [rater["id"]]) is None:
            return why
    return MUTED if rater["reliability"] == 0 else None


def _owner_agrees(db: Database, row: Row) -> bool:
    """Whether the owner of the conversation consents to learning from an event about it."""
    sql = f"SELECT 1 FROM raters WHERE id = :rater AND {owners_agree(':message')}"
    return first(db, sql, {"rater": row["rater_id"], "message": _about(db, row)}) is not None


def _deleted_at(db: Database, row: Row) -> str | None:
    """When the conversation was deleted that an event is about; None if it was not."""
    sql = """SELECT deleted_at FROM messages JOIN conversations
        ON conversations.id = conversation_id WHERE messages.id = ?"""
    found = first(db, sql, [_about(db, row)])
    return found["deleted_at"] if found else None


def _about(db: Database, row: Row) -> str | None:
    """The message that an event is about; of candidates, the one that they answer."""
    if row.get("candidates_id") is not None:
        return str(require(db, "candidates", row["candidates_id"])["prompt_message_id"])
    return row.get("message_id")


def _why_nothing_was_derived(db: Database, name: str, row: Row) -> str:
    if name in ("choice", "ranking"):
        sql = "SELECT DISTINCT text_hash FROM messages WHERE candidates_id = ?"
        return IDENTICAL if len(rows(db, sql, [row["candidates_id"]])) == 1 else OUTRANKED
    if name == "retry":
        new, old = (require(db, "messages", row[key]) for key in ("message_id", "retry_of"))
        if new["text_hash"] == old["text_hash"]:
            return IDENTICAL
        if row["than_before"] is not None:
            return OUTRANKED
        accepted = f"SELECT 1 FROM retries AS event WHERE event.id = ? AND {RETRY_ACCEPTED}"
        return OUTRANKED if first(db, accepted, [row["id"]]) else NOT_ACCEPTED
    if name == "demonstration":
        old = require(db, "messages", row["message_id"])
        return IDENTICAL if old["text_hash"] == row["text_hash"] else OUTRANKED
    return OUTRANKED
