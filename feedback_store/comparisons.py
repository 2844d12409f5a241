"""From what raters said to comparisons: pure functions over records, no database.

Invariants: the result depends on which events stand, never on the order in which they came; the
same opinion always gets the same id, so that a vote taken back and cast again is not a new one;
exchanging the two sides of a choice exchanges the sides of its comparison and nothing else.

- A choice compares its two responses, as shown. "both_bad" says nothing about which is better.
- A ranking of K responses gives all pairs, each with weight 1/C(K,2): one opinion, not many.
- A rewritten response is better than the original.
- Thumbs are paired only within one rater and one prompt: only there do the rater's habits and the
  prompt's difficulty cancel, which leaves exactly the Bradley-Terry model. N ups and M downs share
  the weight of min(N, M) opinions.
- Where a rater judged the same two texts in several ways, only the most direct way counts.
"""

import hashlib
import json
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product

from feedback_store.records import (
    ChatMessage,
    Choice,
    Comparison,
    Demonstration,
    Label,
    Message,
    Prompt,
    Ranking,
    Source,
    Split,
    Thumb,
)

_DIRECTNESS: tuple[Source, ...] = ("choice", "ranking", "edit", "thumbs")
_HELD_OUT_SHARE = 4  # one question in four
_UNHEARD = {"Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "Zs", "Zl", "Zp", "Cc", "Cf"}  # categories


@dataclass(frozen=True, slots=True)
class Evidence:
    """The events that stand, and the messages that they speak of with all their ancestors."""

    choices: Sequence[Choice]
    rankings: Sequence[Ranking]
    thumbs: Sequence[Thumb]
    demonstrations: Sequence[Demonstration]
    messages: Mapping[str, Message]


@dataclass(frozen=True, slots=True)
class _Judgement:
    """Two responses in the order in which they were shown, and who judged them on what."""

    prompt: Prompt
    texts: tuple[str, str]
    label: Label
    source: Source
    weight: float
    rater_id: str
    origin: tuple[str, ...]
    events: tuple[Thumb | Choice | Ranking | Demonstration, ...]


def derive_comparisons(evidence: Evidence) -> list[Comparison]:
    """All comparisons that the evidence implies, sorted by id."""
    prompts = _Prompts(evidence.messages)
    shown = _by_candidates(evidence.messages.values())
    judgements = [
        *_from_choices(evidence.choices, shown, prompts),
        *_from_rankings(evidence.rankings, shown, prompts),
        *_from_edits(evidence.demonstrations, evidence.messages),
        *_from_thumbs(evidence.thumbs, evidence.messages, prompts),
    ]
    told_apart = [item for item in judgements if item.prompt and item.texts[0] != item.texts[1]]
    found = (_comparison(item) for item in _most_direct(told_apart))
    return sorted({item.id: item for item in found}.values(), key=lambda item: item.id)


def normalised(prompt: Sequence[ChatMessage]) -> str:
    """A prompt without what does not change its meaning: case, spacing, Unicode variants."""
    return json.dumps([(item["role"], _plain(item["content"])) for item in prompt])


def split_of(prompt: Sequence[ChatMessage]) -> Split:
    """Whether a prompt is trained on or held out: a property of its question alone, for ever.

    The question is the last user message. The path to it does not count, nor do case, spacing and
    punctuation: else what is trained on in one conversation would be held out in another.
    """
    said = [item["content"] for item in prompt if item["role"] == "user"]
    digest = hashlib.sha256(_bare(said[-1] if said else "").encode()).digest()
    return "held_out" if digest[0] % _HELD_OUT_SHARE == 0 else "train"


class _Prompts:
    """The prompt of each message: the path that leads to it, walked once."""

    def __init__(self, messages: Mapping[str, Message]) -> None:
        self._messages = messages
        self._known: dict[str | None, Prompt] = {None: ()}

    def up_to(self, message_id: str | None) -> Prompt:
        """The messages from the root to this one."""
        branch: list[Message] = []
        while message_id not in self._known:
            branch.append(self._messages[str(message_id)])
            message_id = branch[-1].parent_id
        prompt = self._known[message_id]
        for message in reversed(branch):
            prompt = (*prompt, ChatMessage(role=message.role, content=message.content))
            self._known[message.id] = prompt
        return prompt


_Shown = Mapping[str, Mapping[str, Message]]


def _by_candidates(messages: Iterable[Message]) -> _Shown:
    shown: dict[str, dict[str, Message]] = defaultdict(dict)
    for message in messages:
        if message.candidates_id is not None and message.label is not None:
            shown[message.candidates_id][message.label] = message
    return shown


def _from_choices(
    choices: Sequence[Choice], shown: _Shown, prompts: _Prompts
) -> Iterator[_Judgement]:
    for event in choices:
        if event.choice == "both_bad":
            continue
        replies = shown[event.candidates_id]
        label: Label = "a" if event.choice == "a" else "b" if event.choice == "b" else "tie"
        yield _Judgement(
            prompt=prompts.up_to(replies["a"].parent_id),
            texts=(replies["a"].content, replies["b"].content),
            label=label,
            source="choice",
            weight=1.0,
            rater_id=event.rater_id,
            origin=(event.candidates_id,),
            events=(event,),
        )


def _from_rankings(
    rankings: Sequence[Ranking], shown: _Shown, prompts: _Prompts
) -> Iterator[_Judgement]:
    for event in rankings:
        replies = shown[event.candidates_id]
        rank = {label: place for place, group in enumerate(event.order) for label in group}
        pairs = list(combinations(sorted(rank), 2))
        for one, other in pairs:
            label: Label = "a" if rank[one] < rank[other] else "b"
            yield _Judgement(
                prompt=prompts.up_to(replies[one].parent_id),
                texts=(replies[one].content, replies[other].content),
                label="tie" if rank[one] == rank[other] else label,
                source="ranking",
                weight=1 / len(pairs),
                rater_id=event.rater_id,
                origin=(event.candidates_id, one, other),
                events=(event,),
            )


def _from_edits(
    demonstrations: Sequence[Demonstration], messages: Mapping[str, Message]
) -> Iterator[_Judgement]:
    for event in demonstrations:
        if event.message_id is None:
            continue
        yield _preference(
            prompt=event.prompt,
            better=event.content,
            worse=messages[event.message_id].content,
            source="edit",
            weight=1.0,
            origin=(event.message_id,),
            events=(event,),
        )


def _from_thumbs(
    thumbs: Sequence[Thumb], messages: Mapping[str, Message], prompts: _Prompts
) -> Iterator[_Judgement]:
    groups: dict[tuple[str, str], dict[int, list[Thumb]]] = defaultdict(lambda: {1: [], -1: []})
    for event in thumbs:
        prompt = normalised(prompts.up_to(messages[event.message_id].parent_id))
        groups[event.rater_id, prompt][event.value].append(event)
    for group in groups.values():
        for up, down in product(group[1], group[-1]):
            yield _preference(
                prompt=prompts.up_to(messages[min(up.message_id, down.message_id)].parent_id),
                better=messages[up.message_id].content,
                worse=messages[down.message_id].content,
                source="thumbs",
                weight=1 / max(len(group[1]), len(group[-1])),
                origin=(up.message_id, down.message_id),
                events=(up, down),
            )


def _preference(
    *,
    prompt: Prompt,
    better: str,
    worse: str,
    source: Source,
    weight: float,
    origin: tuple[str, ...],
    events: tuple[Thumb | Demonstration, ...],
) -> _Judgement:
    """A judgement of responses that were not shown side by side.

    Which of them becomes A is decided by their texts, so that A is not always the better one.
    """
    swapped = _digest(better) > _digest(worse)
    return _Judgement(
        prompt=prompt,
        texts=(worse, better) if swapped else (better, worse),
        label="b" if swapped else "a",
        source=source,
        weight=weight,
        rater_id=events[0].rater_id,
        origin=origin,
        events=events,
    )


def _most_direct(judgements: Sequence[_Judgement]) -> Iterator[_Judgement]:
    """Leave out what a rater also said of the same two texts in a more direct way."""
    best: dict[tuple[str, str, frozenset[str]], int] = {}
    subjects = [
        (item.rater_id, normalised(item.prompt), frozenset(item.texts)) for item in judgements
    ]
    for subject, item in zip(subjects, judgements, strict=True):
        rank = _DIRECTNESS.index(item.source)
        best[subject] = min(best.get(subject, rank), rank)
    for subject, item in zip(subjects, judgements, strict=True):
        if _DIRECTNESS.index(item.source) == best[subject]:
            yield item


def _comparison(item: _Judgement) -> Comparison:
    identity = (item.source, item.rater_id, item.origin, item.prompt, item.texts, item.label)
    return Comparison(
        id=_digest(json.dumps(identity))[:32],
        prompt=item.prompt,
        response_a=item.texts[0],
        response_b=item.texts[1],
        label=item.label,
        source=item.source,
        weight=item.weight,
        rater_id=item.rater_id,
        split=split_of(item.prompt),
        created_at=max(event.created_at for event in item.events),
        event_ids=tuple(sorted(event.id for event in item.events)),
    )


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _bare(text: str) -> str:
    """A text without case, white space, punctuation, and control and format characters.

    Source:
        The Unicode Standard, D146: compatibility caseless match.
    """
    folded = unicodedata.normalize("NFD", text).casefold()
    folded = unicodedata.normalize("NFKD", folded).casefold()
    folded = unicodedata.normalize("NFKD", folded)
    return "".join(c for c in folded if unicodedata.category(c) not in _UNHEARD)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
