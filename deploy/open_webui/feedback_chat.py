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
import json
import logging
import sqlite3
import uuid
from contextlib import closing
from pathlib import Path
from typing import Any

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
        except (httpx.HTTPError, ConnectionError) as exc:
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
        """Send what is new or changed, oldest first; take back what is gone."""
        there = {found.id: found.updated_at for found in await Feedbacks.get_all_feedback_ids()}
        headers = {"Authorization": f"Bearer {self.valves.key}"}
        with closing(sqlite3.connect(Path(DATA_DIR) / "feedback_chat.db")) as db:
            db.execute(CARRIED)
            carried = {row[0]: row[1:] for row in db.execute("SELECT * FROM carried")}
            async with httpx.AsyncClient(headers=headers, timeout=30) as client:
                for gone in carried.keys() - there.keys():
                    user_id, message_id, *_ = carried[gone]
                    await self._send(client, user_id, message_id, thumb_of({}))
                    with db:
                        db.execute("DELETE FROM carried WHERE id = ?", [gone])
                for one in sorted(there, key=lambda one: there[one]):
                    before = carried.get(one, ("", "", 0, ""))
                    if before[2] == there[one] and one != changed:
                        continue
                    feedback = await Feedbacks.get_feedback_by_id(one)
                    if feedback is None:
                        continue
                    said = thumb_of(feedback.data or {})
                    whose = (feedback.user_id, str((feedback.meta or {}).get("message_id")))
                    if before[:2] != whose or before[3] != json.dumps(said):
                        await self._send(client, *whose, said)
                    row = [one, *whose, feedback.updated_at, json.dumps(said)]
                    with db:
                        db.execute("INSERT OR REPLACE INTO carried VALUES (?, ?, ?, ?, ?)", row)

    async def _send(
        self, client: httpx.AsyncClient, user_id: str, message_id: str, said: dict[str, Any]
    ) -> None:
        """Send one thumb, or none in its place.

        Raises:
            ConnectionError: It could not be taken now.
        """
        key = f"open-webui {uuid.uuid4()}"
        answer = await client.post(
            f"{self.valves.url.rstrip('/')}/feedback",
            headers={"X-Feedback-Chat-User": user_id},
            json={"client_message": message_id, "idempotency_key": key, **said},
        )
        if answer.status_code in FOR_GOOD:
            log.info("feedback-chat has no use for a thumb: %s", answer.text[:300])
        elif not answer.is_success:
            raise ConnectionError(f"status {answer.status_code}: {answer.text[:300]}")


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
