"""Everything about a person, as one file or erased: for the page "My data" and for the API.

Invariant: the caller has checked who asks; whatever is read or erased is that person's alone. What
was said by somebody unknown is nothing, so nobody is stored to be told so.
"""

import json
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from chat_app.errors import ChatAppError, InvalidRequestError, NotFoundError
from chat_app.service.chat import ChatService
from chat_app.service.erasure import VISITOR, erase_rater
from feedback_store.errors import CycleInProgressError, StoreUnavailableError, say

log = logging.getLogger(__name__)

CONFIRM = "erase"  # what a program has to send to erase everything
FILE = "my-data.json"
_SHOWN = ("id", "title", "page", "created_at", "updated_at", "pinned", "deleted_at")
_SAID = ("id", "parent_id", "role", "content", "adapter", "finish_reason", "created_at")


@dataclass(frozen=True, slots=True)
class AboutMe:
    """What the page says of a person.

    Attributes:
        id: Under which everything is stored.
        consented: Whether votes count.
        stored: Whether anything is stored of the person yet.
        since: When the first thing was stored, if anything is.
        conversations: How many there are, without deleted ones.
        running: The round that runs, after which alone something can be erased.
        erasing: Whether everything is to be erased, and is not yet.
    """

    id: str
    consented: bool
    stored: bool
    since: str | None
    conversations: int
    running: int | None
    erasing: bool


@dataclass(frozen=True, slots=True)
class ErasedData:
    """What was erased: how many of each kind; and what stays.

    Attributes:
        counts: Rows and files by kind.
        versions: Numbers of versions, or names of adapters never served, that may have learnt
            from it: they are marked for the operator, not changed.
        copies: How many backups and exports elsewhere only the operator can delete, and endpoints
            that got texts.
        after: The round that everything waits for; 0 if it is not a round, but a file or another
            erasure; None if it is erased. Until then nothing is learnt from it.
    """

    counts: dict[str, int]
    versions: tuple[int | str, ...]
    copies: int
    after: int | None = None


class MyData:
    """What a person can do with all that is stored of them."""

    def __init__(self, service: ChatService) -> None:
        self._service = service

    def about(self, rater_id: str) -> AboutMe:
        """What the page says first."""
        store = self._service.store
        stored = self._service.knows(rater_id)
        running = store.running_cycle()
        kept = store.every_conversation(rater_id)
        return AboutMe(
            id=rater_id,
            consented=self._service.consented(rater_id),
            stored=stored,
            since=store.rater(rater_id).created_at if stored else None,
            conversations=sum(one["deleted_at"] is None for one in kept),
            running=running.id if running else None,
            erasing=store.is_being_forgotten(rater_id),
        )

    def consent(self, rater_id: str, *, given: bool) -> AboutMe:
        """Agree that votes train the model, or withdraw that."""
        self._service.consent(rater_id, given=given)
        return self.about(rater_id)

    def everything(self, rater_id: str) -> Iterator[str]:
        """All that is stored of a person, as the pieces of one JSON document.

        It is read one conversation at a time, so that a long history needs little memory. Who wrote
        a blind reply is not in it until the person has judged it.
        """
        store, stored = self._service.store, self._service.knows(rater_id)
        rater = asdict(store.rater(rater_id)) if stored else {"id": rater_id}
        head = {name: rater.get(name) for name in ("id", "created_at", "consent")}
        yield f'{{"rater": {_json(head)}, "written_at": {_json(datetime.now(UTC).isoformat())}'
        yield ', "conversations": ['
        for number, one in enumerate(store.every_conversation(rater_id)):
            messages = self._messages(rater_id, one["id"])
            document = {name: one[name] for name in _SHOWN} | {"messages": messages}
            yield f"{', ' if number else ''}{_json(document)}"
        votes = self._service.receipts(rater_id) if stored else []
        yield f'], "votes": {_json(votes)}}}'

    def _messages(self, rater_id: str, conversation_id: str) -> list[dict[str, Any]]:
        store, found = self._service.store, self._service.store.messages(conversation_id)
        shown = {message.candidates_id for message in found if message.candidates_id}
        blind = {name for name in shown if not store.judged(name, rater_id)}
        return [
            {name: getattr(message, name) for name in _SAID}
            | ({"adapter": None} if message.candidates_id in blind else {})
            for message in found
        ]

    def erase(self, rater_id: str, *, confirm: str) -> ErasedData:
        """Erase all that is stored of a person, for good; after the round, if one runs.

        What else prevents it is in the log, for the operator; the server tries again by itself.

        Args:
            rater_id: Whose data it is.
            confirm: Has to be `CONFIRM`, so that nothing is erased by mistake.

        Raises:
            InvalidRequestError: It is not confirmed.
            NotFoundError: Nothing is stored of the person.
        """
        if confirm != CONFIRM:
            raise InvalidRequestError(
                say('nothing was erased; confirm it with "{word}"', word=CONFIRM)
            )
        if not self._service.knows(rater_id):
            raise NotFoundError(say("nothing is stored of you, so nothing was erased"))
        store = self._service.store
        try:
            erased = erase_rater(store, self._service.settings, rater_id, by=VISITOR)
        except CycleInProgressError:
            store.forget_later(rater_id)
            last = store.last_cycle()
            return ErasedData({}, (), 0, after=last.id if last else 0)
        except (ChatAppError, StoreUnavailableError) as exc:
            log.error("who asked to be erased has to wait: %s", exc)
            store.forget_later(rater_id)
            return ErasedData({}, (), 0, after=0)
        versions = store.versions()
        policies = [name for name in erased.adapters if store.adapter(name).kind == "policy"]
        return ErasedData(
            counts={name: count for name, count in erased.counts.items() if count},
            versions=tuple(versions.get(name, name) for name in policies),
            copies=len(erased.copies),
        )


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
