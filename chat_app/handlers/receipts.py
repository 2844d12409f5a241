"""Receipts: each of a person's votes and what became of it, in words.

Invariant: a receipt says what the store knows and no more. If a cycle used the vote, it says
whether the cycle trained on it or only tested with it, and whether the adapter answers now, was
rolled back, or never answered. Otherwise it says what the vote is kept for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chat_app.handlers.views import short
from chat_app.service.chat import ChatService

SHOWN = 30
EXCERPT_CHARS = 60
CHOSEN = {"a": "A was better", "b": "B was better", "tie": "a tie", "both_bad": "both were bad"}


@dataclass(frozen=True, slots=True)
class Receipt:
    """One vote: what was said, about what, and what became of it."""

    said: str
    about: str
    became: str


def receipts_of(service: ChatService, rater_id: str) -> list[Receipt]:
    """The person's standing votes, newest first."""
    events = [event for event in service.receipts(rater_id) if _stands(event)][-SHOWN:]
    texts = service.store.texts_of([_about(event) for event in events])
    return [
        Receipt(
            said=_said(event),
            about=short(event.get("content") or texts.get(_about(event), ""), EXCERPT_CHARS),
            became=_became(event),
        )
        for event in reversed(events)
    ]


def _stands(event: Mapping[str, Any]) -> bool:
    return not event.get("superseded_at") and event.get("value") != 0


def _about(event: Mapping[str, Any]) -> str:
    """The id of the reply or candidates that were judged; empty for a free demonstration."""
    return event.get("candidates_id") or event.get("message_id") or ""


def _said(event: Mapping[str, Any]) -> str:
    if event["event"] == "thumb":
        thumb = "Thumb up" if event["value"] > 0 else "Thumb down"
        return f"{thumb}: {', '.join(event['tags'])}" if event["tags"] else thumb
    if event["event"] == "choice":
        return f"Side by side: {CHOSEN.get(event['choice'], event['choice'])}"
    names = {"demonstration": "Better answer", "ranking": "Ranking", "retry": "Tried again"}
    return names[event["event"]]


def _became(event: Mapping[str, Any]) -> str:
    """What the vote taught or tested, and what it decided."""
    decided = _decided(event["trial"]) if "trial" in event and not event["left_out"] else ""
    return f"{decided} {_taught(event)}".strip()


def _decided(trial: Mapping[str, Any]) -> str:
    """What the choice and those of others said about the two adapters that wrote the replies."""
    kind, outcome, names = trial["kind"], trial["outcome"], (trial["adapter"], trial["other"])
    if outcome is None:
        return "Helps to decide between {} and {}.".format(*names)
    return _DECIDED.get((kind, outcome), _DECIDED[outcome]).format(*names)


_DECIDED: Mapping[Any, str] = {
    ("canary", "better"): "Helped to decide: {} was found better than {}, and was served.",
    ("guard", "worse"): "Helped to decide: {} was found worse than {}, and was rolled back.",
    ("guard", "not_shown"): "Helped to decide: {} was not found worse than {}, and stayed.",
    "better": "Helped to decide: {} was found better than {}, and stayed.",
    "worse": "Helped to decide: {} was found worse than {}, and was not served.",
    "not_shown": "Helped to decide: {} was not found better than {}, and was not served.",
    "stopped": "Compared {} with {}; this was stopped before enough had chosen.",
}


def _taught(event: Mapping[str, Any]) -> str:
    comparisons = [item for item in event["comparisons"] if not item.get("withdrawn_at")]
    uses = [use for item in comparisons for use in item["uses"]]
    left_out = f"Counts for nothing now: {event['left_out']}." if event["left_out"] else ""
    if uses:
        # Several cycles may use a vote. The one whose adapter answers, or did, matters most.
        use = max(uses, key=lambda use: (_RANK.index(use["adapter_is"]), use["cycle"]))
        return f"{_use(use)} {left_out}".strip()
    return left_out or _waits(event, comparisons)


# What an adapter is now, from what matters least to what matters most.
_RANK = (None, "never_served", "rolled_back", "built_on", "served")
_USED = {
    "train": "Trained {}{}.",
    "held_out": "Tested {}{}. It did not train on this: the question is kept for tests.",
    "held_out_raters": "Tested the reward model of {}{}. It did not train on this: your votes are "
    "kept for tests.",
}
_ADAPTER_IS = {
    "served": ", which answers now",
    "built_on": ", from which the policy that answers now was trained",
    "rolled_back": ", which answered for a while and was rolled back",
    "never_served": ", which was rejected and has never answered",
}


_NO_VERDICT = {"running": "is running", "failed": "failed", "cancelled": "was cancelled"}


def _use(use: Mapping[str, Any]) -> str:
    """What one cycle did with a vote, and what became of its adapter."""
    cycle = f"cycle {use['cycle']}"
    ended = _NO_VERDICT.get(use["state"])
    if ended is not None:
        return f"Used by {cycle}, which {ended}."
    if use["adapter"] is None:
        what = cycle if use["used_as"] == "held_out_raters" else f"the reward model of {cycle}"
        return _USED[use["used_as"]].format(what, ", which made no new policy")
    return _USED[use["used_as"]].format(use["adapter"], _ADAPTER_IS[use["adapter_is"]])


_PASSED_OVER = "Not among those that the last cycle drew; a later one may draw it."
_VOTE_WAITS = {
    "train": "Waits for the next training cycle.",
    "held_out": "Kept to test new policies; never trained on.",
    "held_out_raters": "Kept to test new policies, once there are enough such votes; never "
    "trained on.",
}
_WAITS = {  # exceptions from _VOTE_WAITS
    ("tie", "held_out_raters"): "Used for nothing: your votes are kept for tests, and a tie tests "
    "nothing.",
    ("thumb", "train"): "Counts a little by itself in the next cycle, and fully once another "
    "reply to the same question gets the opposite thumb.",
    ("thumb", "held_out"): "Kept for tests, where it counts once another reply to the same "
    "question gets the opposite thumb; never trained on.",
    ("thumb", "held_out_raters"): "Kept for tests, where it counts once another reply to the same "
    "question gets the opposite thumb; never trained on.",
    ("both_bad", "train"): "Counts in the next cycle against both replies.",
    ("both_bad", "held_out"): "Used for nothing: the question is kept for tests, which need to "
    "know the better reply.",
    ("both_bad", "held_out_raters"): "Used for nothing: your votes are kept for tests, which need "
    "to know the better reply.",
    ("rewritten", "held_out_raters"): "Used for nothing: what you say is kept for tests, which "
    "leave rewritten answers out.",
    ("answer", "train"): "The next cycles imitate it, once there are enough better answers.",
    ("answer", "held_out"): "Used for nothing: the question is kept for tests, and a test needs "
    "two replies.",
    ("answer", "held_out_raters"): "Used for nothing: what you say is kept for tests, and a test "
    "needs two replies.",
}


def _waits(event: Mapping[str, Any], comparisons: Sequence[Mapping[str, Any]]) -> str:
    """What will become of an event that no cycle has used yet."""
    if event["event"] == "demonstration":
        kind = "rewritten" if comparisons else "answer"
    elif comparisons:
        kind = "tie" if all(item["label"] == "tie" for item in comparisons) else "vote"
    elif event["event"] == "thumb":
        kind = "thumb"
    else:
        kind = "both_bad" if event["unpaired"] else "vote"
    split = comparisons[0]["split"] if comparisons else event.get("split", "train")
    passed_over = split != "held_out_raters" and any(item["passed_over"] for item in comparisons)
    waits = _WAITS.get((kind, split)) or _VOTE_WAITS[split]
    return f"{_PASSED_OVER} {waits}" if passed_over else waits
