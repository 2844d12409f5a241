"""Receipts: what became of each event of a rater, or why it was left out.

An event becomes comparisons, a judgement of one reply by itself, or nothing. Then `left_out` says
why, in words for the rater. An event that nothing was derived from yet has none of the three. Each
comparison says which cycles used it, how, and what the adapter of each is now.
"""

import json
from collections import defaultdict
from typing import Any

from sqlite_utils import Database

from feedback_store.comparisons.opinions import seen_numbers
from feedback_store.comparisons.refresh import RETRY_ACCEPTED
from feedback_store.feedback.events import EVENT_TABLES, STORES_OWN, owners_agree
from feedback_store.splits import split_of
from feedback_store.sqlite.database import SQLiteFile
from feedback_store.sqlite.rows import Row, decode, first, require, rows

SUPERSEDED = "changed or taken back later"
WITHDRAWAL = "it takes an earlier vote back"
NO_CONSENT = "you do not agree at present that the model learns from what you say"
QUARANTINED = "held back until an operator has looked at this account's judgements"
MUTED = "it contradicts what others say too often"
OWNER = "the owner of the conversation has not agreed that the model learns from it"
TEST = "used to test the service, not to teach it"
NO_PROMPT = "the response answers no message"
IDENTICAL = "the responses say the same"
NOT_ACCEPTED = "you neither liked the new response nor went on from it"
OUTRANKED = "a more direct or later judgement of the same responses counts"


class Receipts:
    """The receipts of a store."""

    _file: SQLiteFile

    def feedback_of(self, rater_id: str) -> list[dict[str, Any]]:
        """A rater's receipts, oldest first: each event with what became of it.

        Returns:
            The event's columns; `comparisons`, each with its `cycles`, `adapters` and `uses`, and
            `passed_over`: a cycle looked at more than it takes, and has not drawn it so far;
            `unpaired`, whether it judges one response by itself; `left_out`, why it counts for
            nothing, or None. An unpaired event and a demonstration have a `split`. A choice in a
            trial has a `trial`: its `kind`, `adapter`, `other`, and `outcome`, None while it is
            open.
            A use has the `cycle`, its `state`, its `adapter` or None, `used_as` (see
            `use_comparisons`), and `adapter_is`: "served" now, "built_on" (the served one was
            trained from it), "rolled_back", "never_served", or None without an adapter.
        """
        with self._file.read() as db:
            rater = require(db, "raters", rater_id)
            became = _comparisons(db, rater_id)
            sql = "SELECT event_id, split FROM unpaired WHERE rater_id = ?"
            unpaired = {row["event_id"]: row["split"] for row in rows(db, sql, [rater_id])}
            sql = """SELECT choices.id AS event, trials.kind, trials.adapter, trials.other, outcome
                FROM choices JOIN candidates ON candidates.id = candidates_id
                JOIN trials ON trials.id = trial_id WHERE choices.rater_id = ?"""
            trials = {row.pop("event"): row for row in rows(db, sql, [rater_id])}
            receipts = []
            for name, table in EVENT_TABLES.items():
                for row in rows(db, f"SELECT * FROM {table} WHERE rater_id = ?", [rater_id]):
                    comparisons, alone = became[row["id"]], row["id"] in unpaired
                    counts = alone or any(c["withdrawn_at"] is None for c in comparisons)
                    said = {k: v for k, v in decode(row).items() if k not in STORES_OWN}
                    receipt = {"event": name, **said}
                    receipt |= {"comparisons": comparisons, "unpaired": alone}
                    receipt["left_out"] = _why_left_out(db, rater, name, row, counts=counts)
                    if row["id"] in trials:
                        receipt["trial"] = trials[row["id"]]
                    if alone:
                        receipt["split"] = unpaired[row["id"]]
                    elif name == "demonstration":
                        held_out = bool(rater["held_out"])
                        receipt["split"] = split_of(receipt["prompt"], held_out_rater=held_out)
                    receipts.append(receipt)
        return sorted(receipts, key=lambda receipt: (receipt["created_at"], receipt["id"]))


def _comparisons(db: Database, rater_id: str) -> dict[str, list[Row]]:
    """The comparisons that each of a rater's events became, by the event's id."""
    sql = """SELECT id, label, source, split, withdrawn_at, event_ids, number, (
            SELECT json_group_array(json_object(
                'cycle', cycle_id, 'state', state, 'adapter', adapter, 'used_as', used_as)) FROM (
                SELECT cycle_comparisons.cycle_id, cycles.state, used_as,
                    coalesce(adapter, name) AS adapter FROM cycle_comparisons
                JOIN cycles ON cycles.id = cycle_comparisons.cycle_id
                LEFT JOIN adapters  -- a cycle that died may have made one before it could say so
                    ON adapters.cycle_id = cycles.id AND adapters.kind = 'policy'
                WHERE comparison_id = comparisons.id ORDER BY 1)) AS uses
        FROM comparisons WHERE rater_id = ? ORDER BY id"""
    found: dict[str, list[Row]] = defaultdict(list)
    adapter_is, seen = _adapters_now(db), seen_numbers(db)["comparisons"]
    for row in rows(db, sql, [rater_id]):
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
        return SUPERSEDED
    if rater["kind"] == "person" and rater["consent"] is None:
        return NO_CONSENT
    if rater["quarantined_at"] is not None:
        return QUARANTINED
    if rater["reliability"] == 0:
        return MUTED
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


def _owner_agrees(db: Database, row: Row) -> bool:
    """Whether the owner of the conversation consents to learning from an event about it."""
    about = row.get("message_id")
    if row.get("candidates_id") is not None:
        about = require(db, "candidates", row["candidates_id"])["prompt_message_id"]
    sql = f"SELECT 1 FROM raters WHERE id = :rater AND {owners_agree(':message')}"
    return first(db, sql, {"rater": row["rater_id"], "message": about}) is not None


def _why_nothing_was_derived(db: Database, name: str, row: Row) -> str:
    if name in ("choice", "ranking"):
        sql = "SELECT DISTINCT text_hash FROM messages WHERE candidates_id = ?"
        return IDENTICAL if len(rows(db, sql, [row["candidates_id"]])) == 1 else OUTRANKED
    if name == "retry":
        new, old = (require(db, "messages", row[key]) for key in ("message_id", "retry_of"))
        if new["text_hash"] == old["text_hash"]:
            return IDENTICAL
        accepted = f"SELECT 1 FROM retries AS event WHERE event.id = ? AND {RETRY_ACCEPTED}"
        return OUTRANKED if first(db, accepted, [row["id"]]) else NOT_ACCEPTED
    if name == "demonstration":
        old = require(db, "messages", row["message_id"])
        return IDENTICAL if old["text_hash"] == row["text_hash"] else OUTRANKED
    return OUTRANKED
