"""What a receipt says: a person's vote and what became of it, as keys of the page's words.

Invariant: a receipt says what the store knows and no more. If a round used the vote, it says
whether the round trained on it or only tested with it, and whether the version answers now, was
rolled back, or never answered. Otherwise it says what the vote is kept for; of a thumb alone, what
would make it count fully, since it may wait for that for ever. The sentences are in
`static/words/LANGUAGE/votes.json`, those of `short` in `page.json`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from chat_app.cycles.round_ahead import RoundAhead
from chat_app.handlers.versions import named
from feedback_store.comparisons import receipts as stored
from feedback_store.records import SPLITS

State = Literal["taught", "tested", "waiting", "alone", "nothing"]
Event = Mapping[str, Any]
STATES: tuple[State, ...] = ("taught", "tested", "waiting", "alone", "nothing")


@dataclass(frozen=True, slots=True)
class Saying:
    """One sentence: its key among the words, and what is put into it.

    Of the params, `version` and `other` are numbers of versions. A text in their place is the name
    of an adapter that was never served, which people know only as a new version.
    """

    key: str
    params: dict[str, int | str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Became:
    """What became of a vote: in one word, and in sentences."""

    state: State
    sayings: tuple[Saying, ...]


def stands(event: Event) -> bool:
    """Whether it is a vote that was neither changed nor taken back.

    A retry of which nothing was said is one if the new reply was liked, or gone on from.
    """
    bare = event["event"] == "retry" and event["than_before"] is None
    withdrawn = event.get("superseded_at") or event.get("value") == 0
    return not withdrawn and (not bare or bool(event["comparisons"]))


def is_test(event: Event) -> bool:
    """Whether it answers a question that tests the person, not the model."""
    return "candidates_id" in event and event["prompt_hash"] is None


def about(event: Event) -> str:
    """The id of the reply or candidates that were judged; empty for a free demonstration."""
    return event.get("candidates_id") or event.get("message_id") or ""


def said(event: Event) -> Saying:
    """What the person said."""
    kind = event["event"]
    if kind == "thumb":
        return Saying(f"votes.said.thumb.{'up' if event['value'] > 0 else 'down'}")
    if kind == "choice":
        return Saying(f"votes.said.choice.{event['choice']}")
    if kind == "retry" and event["than_before"] is not None:
        return Saying(f"votes.said.retry.{event['than_before']}")
    return Saying(f"votes.said.{kind}")


def became(event: Event, versions: Mapping[str, int]) -> Became:
    """What the vote decided, and what it taught or tested.

    Args:
        event: One of `FeedbackStore.feedback_of`.
        versions: `FeedbackStore.versions`.
    """
    sayings = []
    if "trial" in event and not event["left_out"]:
        sayings.append(_decided(event["trial"], versions))
    comparisons = _that_count(event)
    use, left_out = _use_that_matters(comparisons), _left_out(event)
    if use is not None:
        sayings += [_used(use, versions), *left_out]
        return Became(_state_of(use), tuple(sayings))
    if left_out:
        return Became("nothing", (*sayings, *left_out))
    waits, state = _waits(event, comparisons)
    return Became(state, (*sayings, *waits))


def short(event: Event, versions: Mapping[str, int], ahead: RoundAhead) -> Saying:
    """The receipt in a few words, for the place where the vote was given.

    Args:
        event: One of `FeedbackStore.feedback_of`, which stands.
        versions: `FeedbackStore.versions`.
        ahead: The round that is waited for.
    """
    comparisons = _that_count(event)
    use, state = _use_that_matters(comparisons), became(event, versions).state
    if use is not None and use["state"] == "running":
        return Saying("receipt.running", {"round": use["cycle"]})
    if state in ("taught", "tested"):
        assert use is not None, "only a use teaches or tests"
        if use["adapter"] is None:
            return Saying(f"receipt.{state}.round", {"round": use["cycle"]})
        if use["adapter_is"] == "never_served":
            return Saying(f"receipt.{state}.not_served", {"round": use["cycle"]})
        return Saying(f"receipt.{state}", {"version": named(versions, use["adapter"])})
    if state == "nothing":
        return Saying(f"receipt.nothing.{_LEFT_OUT.get(event['left_out'], 'tests')}")
    tests = _split(event, comparisons) != "train"
    if state == "alone":
        return Saying("receipt.alone.tests" if tests else "receipt.alone")
    if tests:
        return Saying("receipt.tests")
    if event["event"] == "retry" and event["than_before"] is None:
        return Saying("receipt.went_on")
    if not ahead.by_itself or ahead.new >= ahead.needed:  # then it is about to begin
        return Saying("receipt.kept")
    have: dict[str, int | str] = {"round": ahead.number, "n": ahead.new, "needed": ahead.needed}
    return Saying("receipt.waits", have)


def _that_count(event: Event) -> list[Event]:
    """The comparisons that stand; and of a vote that the operator left out those that rounds used.

    Its person took nothing back, so it is still told what learnt from it before.
    """
    all_of_them = event["left_out"] == stored.LEFT_OUT
    found = event["comparisons"]
    return [item for item in found if all_of_them or not item.get("withdrawn_at")]


def _decided(trial: Mapping[str, Any], versions: Mapping[str, int]) -> Saying:
    """What the choice and those of others said about the two versions that wrote the replies."""
    version, other = (named(versions, trial[name]) for name in ("adapter", "other"))
    params = {"version": version, "other": other}
    if not trial["counts"]:
        return Saying("votes.decided.again", params)
    if trial["outcome"] is None:
        return Saying("votes.decided.open", params)
    return Saying(f"votes.decided.{trial['kind']}.{trial['outcome']}", params)


# What an adapter is now, from what matters least to what matters most.
_RANK = (None, "never_served", "rolled_back", "built_on", "served")
_NO_VERDICT = ("running", "failed", "cancelled")


def _use_that_matters(comparisons: Sequence[Event]) -> Mapping[str, Any] | None:
    """Several rounds may use a vote. The one whose version answers, or did, matters most."""
    uses = [use for item in comparisons for use in item["uses"]]
    return max(uses, key=lambda use: (_RANK.index(use["adapter_is"]), use["cycle"]), default=None)


def _state_of(use: Mapping[str, Any]) -> State:
    if use["state"] in _NO_VERDICT:
        return "waiting"
    return "taught" if use["used_as"] == "train" else "tested"


def _used(use: Mapping[str, Any], versions: Mapping[str, int]) -> Saying:
    """What one round did with a vote, and what became of its version."""
    if use["state"] in _NO_VERDICT:
        return Saying(f"votes.used.{use['state']}", {"round": use["cycle"]})
    if use["adapter"] is None:
        return Saying(f"votes.used.{use['used_as']}.no_version", {"round": use["cycle"]})
    if use["adapter_is"] == "never_served":  # it has no number that people know
        end = "rejected" if use["state"] == "rejected" else "not_served"
        return Saying(f"votes.used.{use['used_as']}.{end}", {"round": use["cycle"]})
    version = named(versions, use["adapter"])
    return Saying(f"votes.used.{use['used_as']}.{use['adapter_is']}", {"version": version})


_LEFT_OUT = {
    stored.SUPERSEDED: "changed",
    stored.DELETED: "deleted",
    stored.WITHDRAWAL: "withdrawal",
    stored.NO_CONSENT: "no_consent",
    stored.QUARANTINED: "quarantined",
    stored.MUTED: "muted",
    stored.NOT_SCREENED: "not_screened",
    stored.PROGRAM: "program",
    stored.OWNER: "owner",
    stored.LEFT_OUT: "operator",
    stored.TEST: "test",
    stored.NO_PROMPT: "no_prompt",
    stored.IDENTICAL: "identical",
    stored.NOT_ACCEPTED: "not_accepted",
    stored.OUTRANKED: "outranked",
}


def _left_out(event: Event) -> list[Saying]:
    reason = event["left_out"]
    return [Saying(f"votes.left_out.{_LEFT_OUT[reason]}")] if reason else []


# What waits as something of its own; everything else waits as a vote does.
_OWN_WAIT = {
    ("tie", "held_out_raters"),
    *((kind, split) for kind in ("thumb", "both_bad", "answer") for split in SPLITS),
    ("rewritten", "held_out_raters"),
}
_FOR_NOTHING = {
    *(("both_bad", "held_out"), ("answer", "held_out")),
    *((kind, "held_out_raters") for kind in ("tie", "both_bad", "rewritten", "answer")),
}


def _waits(event: Event, comparisons: Sequence[Event]) -> tuple[list[Saying], State]:
    """What will become of an event that no round has used yet."""
    if event["event"] == "demonstration":
        kind = "rewritten" if comparisons else "answer"
    elif comparisons:
        kind = "tie" if all(item["label"] == "tie" for item in comparisons) else "vote"
    elif event["event"] == "thumb":
        kind = "thumb"
    else:
        kind = "both_bad" if event["unpaired"] else "vote"
    split = _split(event, comparisons)
    passed_over = split != "held_out_raters" and any(item["passed_over"] for item in comparisons)
    key = f"votes.waits.{kind if (kind, split) in _OWN_WAIT else 'vote'}.{split}"
    sayings = [Saying("votes.waits.passed_over")] * passed_over + [Saying(key)]
    if kind == "thumb":
        return sayings, "alone"
    return sayings, "nothing" if (kind, split) in _FOR_NOTHING else "waiting"


def _split(event: Event, comparisons: Sequence[Event]) -> str:
    return str(comparisons[0]["split"] if comparisons else event.get("split", "train"))
