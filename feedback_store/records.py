"""What the store holds, as frozen records.

Ids are UUIDv7 text (cycles: 1, 2, ...; adapters: their name) and times are UTC ISO 8601 text with
milliseconds, so that both sort by age. Records never change; a changed vote is a later record. Only
the reasons of a choice may come later. They are plain data, without a database and without rules.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypedDict

Label = Literal["a", "b", "tie"]
Split = Literal["train", "held_out", "held_out_raters"]
Source = Literal["choice", "ranking", "edit", "thumbs", "than_before", "retry", "across"]
Arm = Literal["random", "active"]
UnpairedSource = Literal["thumb", "both_bad"]
Promotion = Literal["offline", "canary", "manual"]

RATER_KINDS = ("person", "simulated", "operator", "judge")
PROGRAMS = ("simulated", "judge")  # kinds of raters that are no people
ROLES = ("system", "user", "assistant")
FINISH_REASONS = ("stop", "length", "cancelled", "error")
SPLITS = ("train", "held_out", "held_out_raters")
CHOICES = ("a", "b", "tie", "both_bad")
CLIENT_MESSAGE = "client_message"  # in a reply's `sampling`: what the client calls the reply
THAN_BEFORE = ("better", "same", "worse")
ARMS = ("random", "active")
PAGES = ("compare",)
ADAPTER_KINDS = ("policy", "reward")
ADAPTER_STATES = ("candidate", "published", "rejected")
CYCLE_STATES = ("running", "passed", "promoted", "rejected", "refused", "failed", "cancelled")
TRIAL_KINDS = ("canary", "guard")
TRIAL_OUTCOMES = ("better", "worse", "not_shown", "stopped")
CYCLE_STAGES = ("snapshot", "sft", "reward", "policy", "evaluate", "publish", "done")

ALARM_KINDS = (
    "length",
    "length_drift",
    "entropy",
    "kl",
    "over_optimised",
    "agreement",
    "one_rater",
    "live_win_rate",
    "rejected",
    "failed",
    "rolled_back",
    "starved",
    "erasures",
    "backup",
)

VOTES = {
    "thumb": ("up", "down", "withdrawn"),
    "choice": CHOICES,
    "ranking": ("",),
    "demonstration": ("",),
    "retry": ("", *THAN_BEFORE),
}
"""What a vote of each kind can say, in one word; "" if it has none."""

HAPPENINGS = (*VOTES, "alarm", "cycle", "served")
"""What the feed tells of: votes, alarms, ended cycles, and which adapter is served from then on."""

BASE_ADAPTER = "policy-000000"
"""The base model without an adapter; every store starts by serving it."""


class PromptMessage(TypedDict):
    """One message of a prompt."""

    role: str
    content: str


Prompt = tuple[PromptMessage, ...]


@dataclass(frozen=True, slots=True)
class Rater:
    """Someone who chats and votes.

    `consent` is the version of the terms that the rater agreed to, if any. What a `held_out` rater
    says is only measured on. `reliability` (0 to 1) scales its weight. What a quarantined rater
    says counts for nothing.
    """

    id: str
    kind: str
    consent: str | None
    created_at: str
    held_out: bool = False
    reliability: float = 1.0
    quarantined_at: str | None = None


@dataclass(frozen=True, slots=True)
class Conversation:
    """One rater's conversation: the root of a tree of messages.

    `updated_at` is the time of its last message, or that of the conversation without any.
    `page` is where it began, one of `PAGES`; None in the chat and over the API.
    """

    id: str
    rater_id: str
    title: str
    created_at: str
    pinned: bool = False
    updated_at: str = ""
    page: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the tree; siblings are retries, edits and blind candidates."""

    id: str
    conversation_id: str
    parent_id: str | None
    role: str
    content: str
    adapter: str | None
    sampling: dict[str, Any] | None
    seed: int | None
    finish_reason: str | None
    candidates_id: str | None
    label: str | None
    created_at: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where something was said: the message, its text, its conversation, and the page of that.

    `page` is None for the chat, and for whatever came by the API.
    """

    conversation_id: str
    message_id: str
    content: str
    page: str | None = None


@dataclass(frozen=True, slots=True)
class CandidateReply:
    """A reply to be shown blind beside others."""

    content: str
    adapter: str | None = None
    sampling: dict[str, Any] | None = None
    seed: int | None = None
    finish_reason: str | None = None


@dataclass(frozen=True, slots=True)
class Thumb:
    """+1 or -1 on one response; 0 withdraws the earlier thumb."""

    id: str
    message_id: str
    rater_id: str
    value: int
    tags: tuple[str, ...]
    comment: str
    idempotency_key: str
    created_at: str


@dataclass(frozen=True, slots=True)
class Choice:
    """A side-by-side judgement: "a", "b", "tie" or "both_bad".

    The reasons, `tags` and `comment`, may be given or changed later; the choice stays the same.
    """

    id: str
    candidates_id: str
    rater_id: str
    choice: str
    strength: float | None
    seconds: float | None
    idempotency_key: str
    created_at: str
    tags: tuple[str, ...] = ()
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Retry:
    """A rater wanted another response: `message_id` in place of `retry_of`.

    `than_before` is how the new one is beside the old one, if the rater said so: one of
    `THAN_BEFORE`.
    """

    id: str
    message_id: str
    retry_of: str
    rater_id: str
    idempotency_key: str
    created_at: str
    than_before: str | None = None


@dataclass(frozen=True, slots=True)
class ConversationView:
    """A conversation with all branches, and the standing votes of its rater.

    `thumbs` are by message, without withdrawn ones; `choices` are by candidates, `retries` by the
    new message, `demonstrations` by the message in whose place they were written.
    """

    conversation: Conversation
    messages: tuple[Message, ...]  # oldest first
    thumbs: Mapping[str, Thumb]
    choices: Mapping[str, Choice]
    retries: Mapping[str, Retry]
    demonstrations: Mapping[str, "StoredDemonstration"]

    def path(self, message_id: str | None) -> list[Message]:
        """The messages from the root of the tree to this one; empty for None."""
        known = {message.id: message for message in self.messages}
        path = []
        while message_id is not None:
            path.append(known[message_id])
            message_id = known[message_id].parent_id
        return path[::-1]

    def candidates(self, candidates_id: str) -> list[Message]:
        """The replies that were shown together, by label."""
        shown = [m for m in self.messages if m.candidates_id == candidates_id]
        return sorted(shown, key=lambda message: message.label or "")


@dataclass(frozen=True, slots=True)
class Ranking:
    """All candidates in order, best first; labels in one group are tied."""

    id: str
    candidates_id: str
    rater_id: str
    order: tuple[tuple[str, ...], ...]
    idempotency_key: str
    created_at: str


@dataclass(frozen=True, slots=True)
class StoredDemonstration:
    """A response that a rater wrote, from scratch or in place of the response `message_id`."""

    id: str
    rater_id: str
    message_id: str | None
    prompt: Prompt
    content: str
    idempotency_key: str
    created_at: str


@dataclass(frozen=True, slots=True)
class StoredComparison:
    """Two responses to one prompt and which is better: what the reward model learns from.

    Derived from events. The same opinion always has the same id. `strength` is how much better the
    rater said it is. If `other_rater_id` is set, `rater_id` judged A alone and the other judged B
    alone, so their habits do not cancel (see `across_raters`). `adapter_a` wrote A, `adapter_b` B;
    None if a person did.
    """

    id: str
    prompt: Prompt
    response_a: str
    response_b: str
    label: Label
    source: Source
    weight: float
    rater_id: str
    split: Split
    created_at: str
    event_ids: tuple[str, ...] = ()
    strength: float | None = None
    other_rater_id: str | None = None
    adapter_a: str | None = None
    adapter_b: str | None = None

    def swap(self) -> "StoredComparison":
        """The same judgement with the sides exchanged."""
        label: Label = "tie" if self.label == "tie" else "b" if self.label == "a" else "a"
        return replace(
            self,
            response_a=self.response_b,
            response_b=self.response_a,
            label=label,
            adapter_a=self.adapter_b,
            adapter_b=self.adapter_a,
        )


@dataclass(frozen=True, slots=True)
class StoredUnpaired:
    """One response judged good or bad by itself: TRL's unpaired preference. Derived from events."""

    id: str
    prompt: Prompt
    response: str
    good: bool
    source: UnpairedSource
    weight: float
    rater_id: str
    split: Split
    created_at: str
    event_id: str


@dataclass(frozen=True, slots=True)
class OpinionRow:
    """A comparison, an unpaired judgement or a demonstration without its texts.

    `number` is the opinion's place in the order of arrival; the rows of one opinion share it.
    `weight` is the row's own, before the rater's. `adapters` made the judged replies, as far as
    they are known. Rows with one `subject` judge the same texts; `verdict` is 1 for the one, -1 for
    the other and 0 for a tie.
    """

    number: int
    id: str
    rater_id: str
    created_at: str
    weight: float
    adapters: tuple[str, ...]
    subject: str
    verdict: int


@dataclass(frozen=True, slots=True)
class Adapter:
    """A named set of LoRA weights, which are files in the data directory.

    `tainted_at` is when a rater was forgotten whose words the weights learnt, or may have learnt.
    """

    name: str
    kind: str
    parent: str | None
    cycle_id: int | None
    state: str
    metrics: dict[str, float]
    created_at: str
    tainted_at: str | None = None


@dataclass(frozen=True, slots=True)
class Serving:
    """The policy adapter that new replies use, and the one that they used before."""

    adapter: str
    previous: str | None
    since: str
    by: str


@dataclass(frozen=True, slots=True)
class Trial:
    """People compare two policy adapters, blind: `adapter` and, beside it, the `other` one.

    A `canary` asks before a promotion, whether the new adapter is better than the served one; a
    `guard` after it, whether the served adapter is worse than the one before. `outcome` is about
    `adapter`, and `reason` says why in words; both are None while the trial is open.
    """

    id: int
    kind: str
    adapter: str
    other: str
    started_at: str
    ended_at: str | None = None
    outcome: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class ServedBase:
    """The base model that a server answers with; votes and adapters belong to it.

    Attributes:
        model: Its name; of a file or a directory, the absolute path.
        contract: By option, what the cycles on its votes have to share, such as the lengths.
        fingerprint: Identifies its weights, as an adapter's manifest does; None if not known.
    """

    model: str
    contract: dict[str, Any]
    fingerprint: str | None = None


@dataclass(frozen=True, slots=True)
class Cycle:
    """One pass from comparisons to a promoted or rejected adapter."""

    id: int
    state: str
    stage: str
    progress: float
    adapter: str | None
    reasons: tuple[str, ...]
    metrics: dict[str, float]
    config: dict[str, Any]
    pid: int
    started_at: str
    finished_at: str | None


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One line of the audit log: what somebody did, `detail` by name, with no text of a chat."""

    id: int
    at: str
    action: str
    detail: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Alarm:
    """What an operator should hear of: a measurement beyond its limit, or how something ended.

    `kind` is one of `ALARM_KINDS`. `text` is one sentence for a person, and quotes nobody.
    """

    kind: str
    text: str
    value: float | None = None
    limit: float | None = None


@dataclass(frozen=True, slots=True)
class RaisedAlarm(Alarm):
    """An alarm in the store; `tries` counts how often it was sent or tried to be."""

    id: int = 0
    cycle_id: int | None = None
    raised_at: str = ""
    tries: int = 0
