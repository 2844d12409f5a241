"""
title: feedback-chat
description: Carries thumbs to feedback-chat, whose model learns from them.
version: 1.0.0
required_open_webui_version: 0.12.0
license: Apache-2.0
"""  # noqa: D205, D212, D415 - Open WebUI reads these lines

# A function of Open WebUI, of its kind "event": an administrator pastes it in under Admin Panel >
# Functions, sets its two valves and turns it on (docs/clients.md). At each event of feedback it
# compares all feedback that there is with what it carried before, which it keeps in a small file
# beside Open WebUI's database. So nothing is lost while feedback-chat is away, and what was taken
# back or deleted here is taken back there. A vote ends on the stored reply, because the connection
# sends Open WebUI's name of the reply with the question (the header X-Feedback-Chat-Message).

import asyncio
import hashlib
import json
import logging
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from open_webui.env import DATA_DIR
from open_webui.models.feedbacks import Feedbacks
from pydantic import BaseModel, Field

log = logging.getLogger(__name__)

AGAIN_S = 60  # until the next attempt, if feedback-chat did not answer
COMMENT_CHARS = 2_000  # as feedback-chat takes them
# What feedback-chat calls these reasons, by the rating; all others go into the comment.
REASONS = {
    (1, "accurate_information"): "correct",
    (1, "followed_instructions_perfectly"): "did what I asked",
    (1, "positive_attitude"): "friendly",
    (-1, "not_factually_correct"): "wrong",
    (-1, "didnt_fully_follow_instructions"): "ignored my request",
    (-1, "too_verbose"): "too long",
}
CARRIED = """CREATE TABLE IF NOT EXISTS carried
    (id TEXT PRIMARY KEY, user_id TEXT, message_id TEXT, updated_at INTEGER, said TEXT)"""
# Answers that no later attempt would change: the reply is another model's or was cut off.
FOR_GOOD = (400, 404, 409, 422)
NOTHING_NOW = (401, 403, 503)  # answers that every other vote would get, too
AWAY = (httpx.ConnectError, httpx.ConnectTimeout, PermissionError)  # so nothing more is tried
NOTHING = json.dumps({"thumb": None})  # what feedback-chat has of somebody who said nothing


class Carried(NamedTuple):
    """What feedback-chat has of one feedback, or is to have; a row of the small file."""

    user_id: str = ""
    message_id: str = ""
    updated_at: int = 0  # of the feedback that was looked at last, in seconds
    said: str = NOTHING  # as `thumb_of` says it, in JSON


class Event:
    """What Open WebUI calls at each of its events."""

    class Valves(BaseModel):
        """What the administrator sets."""

        url: str = Field(default="http://127.0.0.1:7860/v1", description="Of feedback-chat.")
        key: str = Field(default="", description="The key that the connection to it has, too.")

    def __init__(self) -> None:
        self.valves = self.Valves()
        self._one_at_a_time = asyncio.Lock()
        self._again: asyncio.Task[None] | None = None

    async def event(self, event: dict[str, Any]) -> None:
        """Carry what has changed, if the event is one of feedback, or the server has started."""
        name = str(event.get("event"))
        if name.startswith("feedback.") or name == "system.startup.completed":
            await self._carry(changed=str((event.get("subject") or {}).get("id")))

    async def _carry(self, changed: str = "") -> None:
        """Bring feedback-chat to what is here; ``changed`` is sent even if its time is the same."""
        try:
            async with self._one_at_a_time:
                await self._carry_all(changed)
        except (httpx.HTTPError, ConnectionError, PermissionError) as exc:
            log.warning(
                "feedback waits for feedback-chat, another attempt in %s s: %s", AGAIN_S, exc
            )
            if self._again is None or self._again.done():
                self._again = asyncio.create_task(self._later())

    async def _later(self) -> None:
        await asyncio.sleep(AGAIN_S)
        self._again = None
        await self._carry()

    async def _carry_all(self, changed: str) -> None:
        """Bring over what is new or changed, oldest first, and what is gone.

        Raises:
            ConnectionError: Some of it could not be taken now; the rest was.
        """
        there = {found.id: found.updated_at for found in await Feedbacks.get_all_feedback_ids()}
        headers = {"Authorization": f"Bearer {self.valves.key}"}
        # An answer of 500 ends its connection; the next vote would find it closed.
        anew = httpx.Limits(max_keepalive_connections=0)
        failures: list[str] = []
        with closing(sqlite3.connect(Path(DATA_DIR) / "feedback_chat.db")) as db:
            db.execute(CARRIED)
            carried = {row[0]: Carried(*row[1:]) for row in db.execute("SELECT * FROM carried")}
            everything = [
                *(carried.keys() - there.keys()),
                *sorted(there, key=lambda one: there[one]),
            ]
            async with httpx.AsyncClient(headers=headers, timeout=30, limits=anew) as client:
                for one in everything:
                    before = carried.get(one, Carried())
                    if before.updated_at == there.get(one) and one != changed:
                        continue
                    try:
                        await self._carry_one(client, db, one, before)
                    except AWAY:
                        raise
                    except Exception as exc:  # of one vote; those of others go on
                        failures.append(f"{one}: {exc!r}")
        if failures:
            raise ConnectionError(f"{len(failures)} could not be carried, such as {failures[0]}")

    async def _carry_one(
        self, client: httpx.AsyncClient, db: sqlite3.Connection, one: str, before: Carried
    ) -> None:
        """Send what a feedback says, if that is news, and keep what feedback-chat has of it."""
        feedback = await Feedbacks.get_feedback_by_id(one)
        now = before._replace(said=NOTHING)
        if feedback is not None:
            message_id = str((feedback.meta or {}).get("message_id"))
            said = json.dumps(thumb_of(feedback.data or {}))
            now = Carried(feedback.user_id, message_id, feedback.updated_at, said)
        # The same thumb at a later time may be on more: the reply has gone on.
        later = now.said != NOTHING and now.updated_at > before.updated_at
        if later or now.said != before.said:
            # A repeat has the same key. Two changes of mind in one second do not.
            key = hashlib.sha256(json.dumps([one, before.said, *now]).encode()).hexdigest()
            if not await self._send(client, now, f"open-webui {key}"):
                now = now._replace(said=before.said)
        with db:
            db.execute("DELETE FROM carried WHERE id = ?", [one])
            if feedback is not None:
                db.execute("INSERT INTO carried VALUES (?, ?, ?, ?, ?)", [one, *now])

    async def _send(self, client: httpx.AsyncClient, what: Carried, key: str) -> bool:
        """Send one thumb, or none in its place; whether feedback-chat has taken it.

        Raises:
            PermissionError: The key is wrong, or feedback-chat takes nothing at present.
            ConnectionError: This one could not be taken now.
        """
        answer = await client.post(
            f"{self.valves.url.rstrip('/')}/feedback",
            headers={"X-Feedback-Chat-User": what.user_id},
            json={
                "client_message": what.message_id,
                "idempotency_key": key,
                **json.loads(what.said),
            },
        )
        if answer.status_code in FOR_GOOD:
            log.info("feedback-chat has no use for a thumb: %s", answer.text[:300])
        elif not answer.is_success:
            kind = PermissionError if answer.status_code in NOTHING_NOW else ConnectionError
            raise kind(f"status {answer.status_code}: {answer.text[:300]}")
        return answer.is_success


def thumb_of(data: dict[str, Any]) -> dict[str, Any]:
    """A rating in the words of feedback-chat; null takes the thumb back."""
    rating, reason = str(data.get("rating")), data.get("reason")
    if rating not in ("1", "-1"):
        return {"thumb": None}
    tag = REASONS.get((int(rating), str(reason)))
    points = (data.get("details") or {}).get("rating")
    comments = [
        str(reason).replace("_", " ") if reason and not tag else "",
        f"{points} of 10" if points else "",
        str(data.get("comment") or "").strip(),
    ]
    return {
        "thumb": "up" if rating == "1" else "down",
        "tags": [tag] if tag else [],
        "comment": "; ".join(said for said in comments if said)[:COMMENT_CHARS],
    }
