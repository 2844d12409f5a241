"""A snapshot cut to the contract of lengths, as the server cuts prompts; what was cut is counted.

A prompt loses its oldest turns. A record whose prompt cannot be cut, because the last message alone
is too long, is left out. So is one whose prompt the chat template refuses. So is a comparison of
two replies that are the same as far as training reads them: nothing tells them apart.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import compress
from typing import TypeVar

from rlhf_core.cycle.snapshot import Snapshot, unique, without
from rlhf_core.errors import InvalidInputError, NotEnoughDataError
from rlhf_core.model.chat_format import ChatFormat
from rlhf_core.records import Comparison, Demonstration, Prompt, Unpaired
from rlhf_core.reward.reward_data import prompt_key

Record = TypeVar("Record", Comparison, Demonstration, Unpaired)


def fit_snapshot(
    snapshot: Snapshot, chat: ChatFormat, *, needed: int = 1
) -> tuple[Snapshot, dict[str, float]]:
    """The snapshot as training reads it, and counts for the report.

    Args:
        snapshot: As it was read from the store.
        chat: The model's chat template and contract of lengths say what fits.
        needed: The fewest held-out prompts to compare policies on.

    Returns:
        The snapshot, and by name how many different texts were longer than the contract
        (`data/prompts_cut`, `data/replies_cut`), how many prompts do not fit (`data/left_out`),
        how many the chat template refuses (`data/refused`), and how many comparisons were of the
        same replies (`data/same`).

    Raises:
        NotEnoughDataError: Too few held-out prompts fit.
    """
    fit = _Fitting(chat)
    held_out = fit.prompts(snapshot.held_out_prompts)
    if len(held_out) < needed:
        raise NotEnoughDataError(
            f"{len(held_out)} of {len(snapshot.held_out_prompts)} held-out prompts fit the model "
            f"and its chat template, to compare policies on, and {needed} are needed; collect more "
            "votes, or raise reply.prompt_tokens"
        )
    prompts = fit.prompts(snapshot.prompts)
    # two different prompts may be the same after the cut
    rater_prompts = without(fit.prompts(snapshot.held_out_rater_prompts), prompts)
    rater_votes = [fit.record(vote) for vote in snapshot.held_out_rater_votes]
    fitted = replace(
        snapshot,
        train=fit.records(snapshot.train),
        held_out=fit.records(snapshot.held_out),
        train_votes=fit.records(snapshot.train_votes),
        held_out_votes=fit.records(snapshot.held_out_votes),
        held_out_rater_votes=tuple(vote for vote in rater_votes if vote is not None),
        train_thumbs=fit.records(snapshot.train_thumbs),
        demonstrations=fit.records(snapshot.demonstrations),
        prompts=prompts,
        unvoted_prompts=without(fit.prompts(snapshot.unvoted_prompts), [*prompts, *rater_prompts]),
        older_prompts=fit.prompts(snapshot.older_prompts),
        held_out_prompts=held_out,
        held_out_rater_prompts=rater_prompts,
    )
    if rater_votes:  # each vote has its rater at the same place
        kept = [vote is not None for vote in rater_votes]
        fitted = replace(fitted, held_out_raters=tuple(compress(snapshot.held_out_raters, kept)))
    return fitted, fit.counts()


class _Fitting:
    """Cuts texts to the contract of lengths, each different one once."""

    def __init__(self, chat: ChatFormat) -> None:
        self._chat = chat
        self._prompts: dict[str, Prompt | None] = {}
        self._replies: dict[str, tuple[list[int], bool]] = {}  # token ids, and whether cut
        self._refused: set[str] = set()
        self._same: set[tuple[str, str, str]] = set()

    def prompt(self, prompt: Prompt) -> Prompt | None:
        """The prompt without its oldest turns, or None if it is left out."""
        key = prompt_key(prompt)
        if key not in self._prompts:
            try:
                self._prompts[key] = self._chat.fit_prompt(prompt)
            except InvalidInputError:  # one row of one visitor never stops a cycle
                self._prompts[key] = None
                self._refused.add(key)
        return self._prompts[key]

    def prompts(self, prompts: Sequence[Prompt]) -> tuple[Prompt, ...]:
        """Those that fit, each once."""
        cut = map(self.prompt, prompts)
        return unique([prompt for prompt in cut if prompt is not None])

    def record(self, record: Record) -> Record | None:
        """The record with its prompt cut, or None if it is left out."""
        prompt = self.prompt(record.prompt)
        if prompt is None:
            return None
        if not isinstance(record, Comparison):
            self._reply(record.response)
            return replace(record, prompt=prompt)
        first, second = record.response_a, record.response_b
        if self._reply(first) == self._reply(second):
            self._same.add((prompt_key(prompt), first, second))
            return None
        return replace(record, prompt=prompt)

    def records(self, records: Sequence[Record]) -> tuple[Record, ...]:
        """Those that are not left out."""
        cut = map(self.record, records)
        return tuple(record for record in cut if record is not None)

    def counts(self) -> dict[str, float]:
        """How many different texts were cut or left out so far."""
        cut = sum(
            fitted is not None and prompt_key(fitted) != key
            for key, fitted in self._prompts.items()
        )
        left_out = sum(fitted is None for fitted in self._prompts.values()) - len(self._refused)
        return {
            "data/prompts_cut": float(cut),
            "data/replies_cut": float(sum(was_cut for _, was_cut in self._replies.values())),
            "data/left_out": float(left_out),
            "data/refused": float(len(self._refused)),
            "data/same": float(len(self._same)),
        }

    def _reply(self, text: str) -> list[int]:
        """The reply's tokens as far as training reads them."""
        if text not in self._replies:
            whole = self._chat.encode_reply(text, finished=False)
            self._replies[text] = (self._chat.cut_reply(text), len(whole) > self._chat.reply.tokens)
        return self._replies[text][0]
