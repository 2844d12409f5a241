"""One judgement of somebody else's data set, as rows of the store: a choice, a ranking or a thumb.

Invariants: all ids and keys are made from the data alone, so that what is stored again changes
nothing; a hash decides on which side a reply was "shown", never which one was better.
"""

import string
from collections.abc import Sequence

from sqlite_utils import Database

from feedback_store.datasets.event_files import FORGOTTEN
from feedback_store.datasets.foreign.judgement import (
    ForeignReply,
    ForeignThumb,
    Judgement,
    Stated,
    digest,
)
from feedback_store.feedback.events import store_event
from feedback_store.feedback.messages import store_message
from feedback_store.privacy.forgetting import is_forgotten
from feedback_store.raters.accounts import would_hold_out
from feedback_store.records import Prompt
from feedback_store.sqlite.ids import utc_now
from feedback_store.sqlite.rows import Row, encode, first, insert

CONTRADICTION = "another judgement of the same replies is stored"
NEW, KNOWN = "new", "known"


def store(db: Database, form: str, said: Stated) -> str:
    """Store what was said unless it is there; say whether it was, or why it cannot be.

    Args:
        db: An open transaction.
        form: What the ids begin with.
        said: What passed `checked`.
    """
    rater = f"{form}:{said.rater}"
    conversation = f"{form}:{digest(said.rater, said.conversation)}"
    path = _path(form, conversation, said.prompt)
    if isinstance(said, ForeignThumb):
        return _store_thumb(db, form, rater, path, said)
    return _store_judgement(db, form, rater, path, said)


def _store_judgement(
    db: Database, form: str, rater: str, path: list[Row], judgement: Judgement
) -> str:
    texts = sorted(reply.content for reply in judgement.replies)
    name = f"{form}:{digest(path[-1]['id'], *texts)}"  # of the candidates and of the event
    shown, places = _shuffled(name, judgement)
    table, verdict = _verdict(places, judgement.strength)
    if first(db, "SELECT 1 FROM candidates WHERE id = ?", [name]) is not None:
        return _known(db, table, name, verdict)
    if is_forgotten(db, rater):
        return FORGOTTEN
    common = {"rater_id": rater, "created_at": judgement.created_at or utc_now()}
    _store_path(db, form, path, common)
    insert(db, "candidates", {"id": name, "prompt_message_id": path[-1]["id"]} | common)
    for label, reply in zip(string.ascii_lowercase, shown, strict=False):
        row = _reply(f"{name}:{label}", path[-1], reply)
        about = {"candidates_id": name, "label": label, "created_at": common["created_at"]}
        store_message(db, row | about)
    event = {"id": name, "candidates_id": name, "idempotency_key": name}
    store_event(db, table, event | common | verdict)
    return NEW


def _store_thumb(db: Database, form: str, rater: str, path: list[Row], thumb: ForeignThumb) -> str:
    message = f"{form}:{digest(path[-1]['id'], 'assistant', thumb.reply.content)}"
    name = f"{form}:{digest(message, 'thumb')}"
    said = {"value": thumb.value, "tags": thumb.tags, "comment": thumb.comment}
    if first(db, "SELECT 1 FROM thumbs WHERE id = ?", [name]) is not None:
        return _known(db, "thumbs", name, {"value": thumb.value})
    if is_forgotten(db, rater):
        return FORGOTTEN
    common = {"rater_id": rater, "created_at": thumb.created_at or utc_now()}
    _store_path(db, form, path, common)
    if first(db, "SELECT 1 FROM messages WHERE id = ?", [message]) is None:
        at = {"created_at": common["created_at"]}
        store_message(db, _reply(message, path[-1], thumb.reply) | at)
    event = {"id": name, "message_id": message, "idempotency_key": name}
    store_event(db, "thumbs", event | common | said)
    return NEW


def _known(db: Database, table: str, name: str, verdict: Row) -> str:
    known = first(db, f"SELECT * FROM {table} WHERE id = ?", [name])
    same = known and all(known[column] == encode(verdict[column]) for column in verdict)
    return KNOWN if same else CONTRADICTION


def _store_path(db: Database, form: str, path: list[Row], common: Row) -> None:
    """The rater, the conversation and the messages of a prompt, unless they are there."""
    _ensure_rater(db, common["rater_id"], form)
    owner = {"id": path[0]["conversation_id"], "title": form} | common
    if first(db, "SELECT 1 FROM conversations WHERE id = ?", [owner["id"]]) is None:
        insert(db, "conversations", owner)
    for message in path:
        if first(db, "SELECT 1 FROM messages WHERE id = ?", [message["id"]]) is None:
            store_message(db, message | {"created_at": common["created_at"]})


def _ensure_rater(db: Database, rater: str, form: str) -> None:
    # New here, however old the data set is: `sweep` and `forget` go by when it came in.
    row = {"id": rater, "kind": "person", "consent": f"dataset:{form}", "created_at": utc_now()}
    if first(db, "SELECT 1 FROM raters WHERE id = ?", [rater]) is None:
        insert(db, "raters", row | {"held_out": would_hold_out(db, rater)})


def _path(form: str, conversation: str, prompt: Prompt) -> list[Row]:
    """The messages of a prompt; what conversations have in common is one branch."""
    path: list[Row] = []
    for said in prompt:
        parent = path[-1]["id"] if path else None
        name = f"{form}:{digest(conversation, parent, said['role'], said['content'])}"
        path.append(_message(name, conversation, parent, said["role"], said["content"]))
    return path


def _message(name: str, conversation: str, parent: str | None, role: str, content: str) -> Row:
    unknown = dict.fromkeys(("adapter", "sampling", "seed", "finish_reason"))
    return {
        "id": name,
        "conversation_id": conversation,
        "parent_id": parent,
        "role": role,
        "content": content,
        "candidates_id": None,
        "label": None,
    } | unknown


def _reply(name: str, prompt: Row, reply: ForeignReply) -> Row:
    row = _message(name, prompt["conversation_id"], prompt["id"], "assistant", reply.content)
    return row | {"sampling": reply.model and {"model": reply.model}}


def _shuffled(name: str, judgement: Judgement) -> tuple[list[ForeignReply], list[int] | None]:
    """The replies from left to right, as a hash has it, and the place of each."""
    texts = [reply.content for reply in judgement.replies]
    order = sorted(range(len(texts)), key=lambda i: (digest(name, texts[i]), i))
    places = judgement.places
    return [judgement.replies[i] for i in order], (
        None if places is None else [places[i] for i in order]
    )


def _verdict(places: Sequence[int] | None, strength: float | None) -> tuple[str, Row]:
    """The table of the event, and its columns that say which reply is better."""
    if places is None or len(places) == 2:
        choice = "both_bad"
        if places is not None:
            a, b = places
            choice = "tie" if a == b else "a" if a < b else "b"
        return "choices", {"choice": choice, "strength": strength, "seconds": None}
    labels: dict[int, list[str]] = {}
    for place, label in zip(places, string.ascii_lowercase, strict=False):
        labels.setdefault(place, []).append(label)
    return "rankings", {"order": tuple(tuple(labels[place]) for place in sorted(labels))}
