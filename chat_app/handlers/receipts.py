"""Receipts: each of a person's votes and what became of it, in words.

Invariant: it says what the store knows and no more. A vote that only tests the model (a held-out
prompt) is said to test it; one that no cycle has used is said to wait.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chat_app.handlers.views import short
from chat_app.service.chat import ChatService

SHOWN = 30
EXCERPT_CHARS = 60
CHOSEN = {"a": "A was better", "b": "B was better", "tie": "a tie", "both_bad": "both were bad"}


@dataclass(frozen=True, slots=True)
class Receipt:
    """One vote: what was said, about what, and what came of it."""

    said: str
    about: str
    became: str


def receipts_of(service: ChatService, rater_id: str) -> list[Receipt]:
    """The person's standing votes, newest first."""
    events = [event for event in service.receipts(rater_id) if _stands(event)][-SHOWN:]
    outcomes = {cycle.id: cycle.state for cycle in service.recent_cycles(200)}
    texts = service.store.texts_of([about for event in events if (about := _about(event))])
    return [
        Receipt(_said(event), _excerpt(event, texts), _became(event, outcomes))
        for event in reversed(events)
    ]


def _stands(event: Mapping[str, Any]) -> bool:
    return not event.get("superseded_at") and event.get("value") != 0


def _said(event: Mapping[str, Any]) -> str:
    if event["event"] == "thumb":
        thumb = "Thumb up" if event["value"] > 0 else "Thumb down"
        return ": ".join([thumb, ", ".join(event["tags"])] if event["tags"] else [thumb])
    if event["event"] == "choice":
        return f"Side by side: {CHOSEN.get(event['choice'], event['choice'])}"
    names = {"demonstration": "Better answer", "ranking": "Ranking", "retry": "Tried again"}
    return names[event["event"]]


def _about(event: Mapping[str, Any]) -> str | None:
    """The id of what an event is about: a reply, or candidates."""
    about = event.get("candidates_id") or event.get("message_id")
    return None if event["event"] == "demonstration" or about is None else str(about)


def _excerpt(event: Mapping[str, Any], texts: Mapping[str, str]) -> str:
    """What was judged, or what the person wrote; of candidates the question."""
    said = event["content"] if event["event"] == "demonstration" else texts.get(_about(event) or "")
    return short(said or "", EXCERPT_CHARS)


def _became(event: Mapping[str, Any], outcomes: Mapping[int, str]) -> str:
    comparisons = [item for item in event["comparisons"] if not item.get("withdrawn_at")]
    cycles = sorted({cycle for item in comparisons for cycle in item["cycles"]})
    held_out = any(item["split"] != "train" for item in [*comparisons, event] if "split" in item)
    if cycles:
        use = "Tested the work of" if held_out else "Taught"
        return f"{use} cycle {cycles[-1]}, {_outcome(outcomes.get(cycles[-1], ''))}."
    if event["left_out"]:
        return f"Counts for nothing now: {event['left_out']}."
    if held_out:
        return "Kept to test new versions; never trained on."
    if event["event"] == "thumb" and not comparisons:
        return (
            "Counts a little by itself in the next cycle, and fully once another reply to the same "
            "question gets the opposite thumb."
        )
    if event["unpaired"]:
        return "Counts in the next cycle against both replies."
    return "Waits for the next training cycle."


def _outcome(state: str) -> str:
    return {
        "promoted": "whose result is served since",
        "rejected": "whose result did not pass the tests",
        "running": "which is running",
        "failed": "which failed",
        "refused": "which had too little evidence",
    }.get(state, "whose outcome is not known")
