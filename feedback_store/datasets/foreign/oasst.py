"""OpenAssistant: trees of messages, the replies to one message ranked by several people.

Both files of a release can be read: whole trees ("prompt" with "replies"), and flat messages, which
`FlatMessages` puts together again. A message that was deleted, or found to be spam, is left out
with all that answers it, however the file writes that; where the file does not say, the message is
taken, and that is noted. The ranks are merged from several people's, so a tree is one rater's.

Source:
    Köpf et al. 2023, arXiv:2304.07327; the data sets `OpenAssistant/oasst1` and `oasst2`.
"""

import json
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from sqlite_utils.utils import sqlite3  # type: ignore[attr-defined]  # pysqlite3, if there

from feedback_store.datasets.foreign.judgement import (
    EMPTY,
    ForeignReply,
    Judgement,
    Note,
    Part,
    Parts,
    Skip,
    checked,
    digest,
    ranks,
)
from feedback_store.datasets.foreign.values import (
    flag,
    given,
    name_of,
    required,
    required_name,
    shown,
    text,
    utc,
    whole,
)
from feedback_store.errors import InvalidFeedbackError
from feedback_store.records import Prompt, PromptMessage
from feedback_store.splits import visible

DELETED = "a deleted message"
SPAM = "a message that reviewers refused"
ORPHAN = "a message that hangs on no prompt in the file"
TWICE = "a message that is in the file twice"
UNRANKED = "a reply without a rank among several"
ALONE = "a reply with no other beside it"
UNKNOWN = "messages taken, though nothing says whether they were {0}"
_ASKED = {"deleted": "deleted", "review_result": "refused"}
_ROLES = {"prompter": "user", "assistant": "assistant"}


class FlatMessages:
    """A key-value store of numbered documents: flat messages by the tree that they belong to.

    The messages of a tree may be anywhere in the file, and the file may not fit into memory. So a
    temporary file of SQLite's holds them, which is gone with the object.
    """

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None)  # a file that SQLite deletes
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.execute("CREATE TABLE messages (tree TEXT, number INTEGER, message TEXT)")
        self._db.execute("BEGIN")

    def add(self, number: int, document: Any) -> bool:
        """Keep a flat message; False if the document is a whole tree.

        Raises:
            InvalidFeedbackError: It is neither.
        """
        if isinstance(document, dict) and isinstance(document.get("prompt"), dict):
            return False
        message = _named(document)
        row = (_tree_of(message), number, json.dumps(message))
        self._db.execute("INSERT INTO messages VALUES (?, ?, ?)", row)
        return True

    def trees(self) -> Iterator[tuple[int, Any, list[Skip]]]:
        """Each tree: the number of its first message, the tree, and what has no place in it.

        The tree is None if its root is not in the file.
        """
        sql = "SELECT tree, number, message FROM messages ORDER BY tree, number"
        for _, rows in groupby(self._db.execute(sql), key=lambda row: row[0]):
            found = list(rows)
            tree, skips = _put_together([json.loads(message) for _, _, message in found])
            yield found[0][1], tree, skips

    def close(self) -> None:
        """Give the disk space back."""
        self._db.close()


def read(document: Any) -> Parts:
    """The judgements in one tree."""
    root = required(document, "prompt", dict)
    _check_message(root)
    name = digest(required_name(root, "message_id"))
    return list(_walk(root, name))


def _named(message: Any) -> dict[str, Any]:
    """A flat message with its names as texts, None where there is none."""
    _check_message(message)
    names = ("message_id", "parent_id", "message_tree_id")
    return dict(message) | {name: name_of(message, name) for name in names}


def _tree_of(message: dict[str, Any]) -> str:
    """The name of the tree that a flat message belongs to."""
    name = message["message_tree_id"]
    if name is None and message["parent_id"] is None:
        name = message["message_id"]
    if name is None:
        raise InvalidFeedbackError("there is no 'message_tree_id'")
    return str(name)


def _put_together(messages: Sequence[Any]) -> tuple[Any, list[Skip]]:
    nodes = {message["message_id"]: message | {"replies": []} for message in messages}
    roots = [node for node in nodes.values() if node["parent_id"] is None]
    for node in nodes.values():
        if (parent := nodes.get(node["parent_id"])) is not None:
            parent["replies"].append(node)
    reached = _size(roots[0]) if roots else 0
    skips = [Skip(TWICE)] * (len(messages) - len(nodes)) + [Skip(ORPHAN)] * (len(nodes) - reached)
    return ({"prompt": roots[0]} if roots else None), skips


def _walk(root: Any, name: str) -> Iterator[Part]:
    stack: list[tuple[Any, Prompt]] = [(root, ())]
    while stack:  # no recursion: how deep a tree is, is up to the file
        node, above = stack.pop()
        if (skip := _unusable(node)) is not None:
            yield skip
            continue
        unknown = [how for field, how in _ASKED.items() if flag(node, field) is None]
        yield from [Note(UNKNOWN.format(how)) for how in unknown]
        path = (*above, PromptMessage(role=_ROLES[node["role"]], content=node["text"]))
        replies = node.get("replies") or []
        for reply in replies:
            _check_message(reply)
        if node["role"] == "prompter":
            yield from _ranking([r for r in replies if _unusable(r) is None], name, path)
        stack.extend((reply, path) for reply in reversed(replies))


def _ranking(replies: Sequence[Any], name: str, prompt: Prompt) -> Iterator[Part]:
    if len(replies) < 2:
        yield from [Skip(ALONE)] * len(replies)
        return
    ranked = [reply for reply in replies if whole(reply, "rank") is not None]
    yield from [Skip(UNRANKED)] * (len(replies) - len(ranked))
    if len(ranked) < 2:
        return
    places = ranks([rank for r in ranked if (rank := whole(r, "rank")) is not None])
    said = tuple(ForeignReply(reply["text"], name_of(reply, "model_name")) for reply in ranked)
    times = [utc(given(reply, "created_date")) for reply in ranked]
    at = max((time for time in times if time is not None), default=None)
    yield checked(Judgement(name, name, prompt, said, places, created_at=at))


def _size(root: Any) -> int:
    size, stack = 0, [root]
    while stack:
        node = stack.pop()
        size += 1
        stack.extend(node["replies"])
    return size


def _unusable(message: Any) -> Skip | None:
    if flag(message, "deleted"):
        return Skip(DELETED)
    if flag(message, "review_result") is False:
        return Skip(SPAM)
    return None if visible(text(message, "text")) else Skip(EMPTY)


def _check_message(message: Any) -> None:
    required_name(message, "message_id")
    text(message, "text")
    role = required(message, "role", str)
    if role not in _ROLES:
        raise InvalidFeedbackError(f"'role' cannot be {shown(role)}")
