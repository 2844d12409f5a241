"""OpenAssistant: trees of messages, the replies to one message ranked by several people.

Read are both files of a release: whole trees ("prompt" with "replies"), and flat messages, which
`grouped_by` and `tree` put together again. What was deleted or found to be spam is left out with
all that answers it. The ranks are merged from several people's, so a tree counts as one rater.

Source:
    Köpf et al. 2023, arXiv:2304.07327; the data sets `OpenAssistant/oasst1` and `oasst2`.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from feedback_store.datasets.judgement import (
    ForeignReply,
    Judgement,
    Parts,
    Skip,
    checked,
    digest,
    ranks,
    required,
    shown,
    utc,
)
from feedback_store.errors import InvalidFeedbackError
from feedback_store.records import Prompt, PromptMessage

DELETED = "a deleted message"
SPAM = "a message that reviewers refused"
ORPHAN = "a message that hangs on no prompt in the file"
TWICE = "a message that is in the file twice"
UNRANKED = "a reply without a rank among several"
_ROLES = {"prompter": "user", "assistant": "assistant"}


def grouped_by(document: Any) -> str | None:
    """The tree to which a flat message belongs; None for a whole tree.

    Raises:
        InvalidFeedbackError: It is neither.
    """
    if isinstance(document, dict) and isinstance(document.get("prompt"), dict):
        return None
    _check_message(document)
    parent = document.get("parent_id")
    if parent is not None:
        required(document, "parent_id", str)
    tree_id = document.get("message_tree_id") or (document["message_id"] if not parent else None)
    if not isinstance(tree_id, str):
        raise InvalidFeedbackError("there is no 'message_tree_id'")
    return tree_id


def tree(messages: Sequence[Any]) -> tuple[Any, list[Skip]]:
    """The tree of flat messages, None if there is no root, and what does not hang on it."""
    nodes = {message["message_id"]: message | {"replies": []} for message in messages}
    roots = [node for node in nodes.values() if node.get("parent_id") is None]
    for node in nodes.values():
        if (parent := nodes.get(node.get("parent_id"))) is not None:
            parent["replies"].append(node)
    reached = _size(roots[0]) if roots else 0
    skips = [Skip(TWICE)] * (len(messages) - len(nodes)) + [Skip(ORPHAN)] * (len(nodes) - reached)
    return ({"prompt": roots[0]} if roots else None), skips


def read(document: Any) -> Parts:
    """The judgements in one tree."""
    root = required(document, "prompt", dict)
    _check_message(root)
    name = digest(root["message_id"])
    return list(_walk(root, name))


def _walk(root: Any, name: str) -> Iterator[Judgement | Skip]:
    stack: list[tuple[Any, Prompt]] = [(root, ())]
    while stack:  # no recursion: how deep a tree is, is up to the file
        node, above = stack.pop()
        if (skip := _unusable(node)) is not None:
            yield skip
            continue
        path = (*above, PromptMessage(role=_ROLES[node["role"]], content=node["text"]))
        replies = node.get("replies") or []
        for reply in replies:
            _check_message(reply)
        if node["role"] == "prompter":
            yield from _ranking([r for r in replies if _unusable(r) is None], name, path)
        stack.extend((reply, path) for reply in reversed(replies))


def _ranking(replies: Sequence[Any], name: str, prompt: Prompt) -> Iterator[Judgement | Skip]:
    if len(replies) < 2:
        return
    ranked = [reply for reply in replies if reply.get("rank") is not None]
    yield from [Skip(UNRANKED)] * (len(replies) - len(ranked))
    if len(ranked) < 2:
        return
    places = ranks([required(reply, "rank", int) for reply in ranked])
    said = tuple(ForeignReply(reply["text"], reply.get("model_name")) for reply in ranked)
    times = [utc(reply.get("created_date")) for reply in ranked]
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
    if message.get("deleted") is True:
        return Skip(DELETED)
    return Skip(SPAM) if message.get("review_result") is False else None


def _check_message(message: Any) -> None:
    required(message, "message_id", str)
    required(message, "text", str)
    role = required(message, "role", str)
    if role not in _ROLES:
        raise InvalidFeedbackError(f"'role' cannot be {shown(role)}")
