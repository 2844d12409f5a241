"""What the score likes, for the report: length, line breaks; and where it is right less often.

Nothing here decides. A reward model that has learnt "long is good" instead of what people want
shows in three figures: how much length alone moves the score, how many votes length alone would
predict, and how accurate it is among replies of other lengths and of newer policies.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rlhf_core.gate.evaluation import accuracy
from rlhf_core.model.chat_format import ChatFormat
from rlhf_core.records import Comparison
from rlhf_core.reward.reward_data import opinion_shares, prompt_key
from rlhf_core.reward.reward_model import Score, scores_of

FEWEST_VOTES = 10  # in a group; with fewer, its accuracy would be chance
Vector = NDArray[np.float64]


def measure_habits(
    chat: ChatFormat,
    score: Score,
    train_votes: Sequence[Comparison],
    held_out_votes: Sequence[Comparison],
) -> dict[str, float]:
    """All figures of this module, by their names in the report.

    Args:
        chat: Counts tokens, as training reads replies.
        score: Scores of responses.
        train_votes: Votes that the score was trained on.
        held_out_votes: Votes that it was not trained on.

    Returns:
        - `reward/length_coefficient` and `reward/newline_coefficient` of the replies in training
          votes; with `reward/held_out_` in front, of those in held-out votes
        - `reward/accuracy_length_only`: share of held-out votes that are for the longer reply, or
          for the shorter one if training votes mostly are
        - `reward/accuracy_by_length/short`, `/middle` and `/long`: accuracy on held-out votes, by
          thirds of the two replies' length; `reward/accuracy_by_version/NAME`: by the adapter that
          wrote both replies, or `mixed`. Groups of fewer than 10 decided votes are left out.
    """
    found: dict[str, float] = {}
    for name, votes in (("", train_votes), ("held_out_", held_out_votes)):
        length, newline = style_coefficients(chat, score, votes)
        found[f"reward/{name}length_coefficient"] = length
        found[f"reward/{name}newline_coefficient"] = newline
    longer = _longer_wins(chat, train_votes), _longer_wins(chat, held_out_votes)
    found["reward/accuracy_length_only"] = longer[1] if longer[0] >= 0.5 else 1 - longer[1]
    for name, groups in (
        ("length", _by_length(chat, held_out_votes)),
        ("version", _by_version(held_out_votes)),
    ):
        for group, votes in groups.items():
            right = accuracy(score, votes)
            if right.votes >= FEWEST_VOTES:
                found[f"reward/accuracy_by_{name}/{group}"] = right.value
    return {name: round(float(value), 4) for name, value in found.items()}


def style_coefficients(
    chat: ChatFormat, score: Score, votes: Sequence[Comparison]
) -> tuple[float, float]:
    """How far the score moves with a reply's length, and with its line breaks.

    Ordinary least squares of the score on the logarithm of the number of tokens and on line breaks
    per 100 tokens, all as deviations from their mean over the prompt's replies, and divided by
    their standard deviation. Comparisons are within a prompt, so only there scores mean something.

    Returns:
        The two standardised coefficients: 0 for a style that moves nothing or never varies, about 1
        or -1 for one that alone makes the score.
    """
    replies = list(
        {
            (prompt_key(c.prompt), text): (c.prompt, text)
            for c in votes
            for text in (c.response_a, c.response_b)
        }.items()
    )
    if not replies:
        return 0.0, 0.0
    prompts, texts = zip(*(reply for _, reply in replies), strict=True)
    tokens = np.array([len(chat.cut_reply(text)) for text in texts], float)  # (N,)
    breaks = np.array([text.count("\n") for text in texts], float)  # (N,)
    columns = [
        scores_of(score, prompts, texts).double().numpy(),
        np.log1p(tokens),
        100 * breaks / np.maximum(tokens, 1),
    ]
    number = np.unique([key for (key, _), _ in replies], return_inverse=True)[1]  # (N,)
    y, *x = (_standardised(column, number) for column in columns)
    found = np.linalg.lstsq(np.stack(x, axis=1), y, rcond=None)[0]  # (2,); 0 for a constant
    return float(found[0]), float(found[1])


def _standardised(values: Vector, groups: NDArray[np.int_]) -> Vector:
    """Deviations from the mean of each group, with standard deviation 1; 0 if there are none."""
    means = np.bincount(groups, values) / np.bincount(groups)
    rest: Vector = values - means[groups]
    sd = float(rest.std())
    return rest / sd if sd > 1e-9 else np.zeros_like(rest)


def _longer_wins(chat: ChatFormat, votes: Sequence[Comparison]) -> float:
    """Share of decided votes for the longer reply; half of those on replies of one length."""
    decided, wins = [c for c in votes if c.label != "tie"], []
    for c in decided:
        a, b = (len(chat.cut_reply(text)) for text in (c.response_a, c.response_b))
        wins.append(0.5 if a == b else float((a > b) == (c.label == "a")))
    return float(np.average(wins, weights=opinion_shares(decided))) if wins else 0.5


def _by_length(chat: ChatFormat, votes: Sequence[Comparison]) -> dict[str, list[Comparison]]:
    """Votes in thirds, by the number of tokens of both replies together."""

    def tokens(c: Comparison) -> int:
        return sum(len(chat.cut_reply(text)) for text in (c.response_a, c.response_b))

    ordered = sorted((c for c in votes if c.label != "tie"), key=tokens)
    third = -(-len(ordered) // 3)
    names = ("short", "middle", "long")
    return {name: ordered[i * third : (i + 1) * third] for i, name in enumerate(names)}


def _by_version(votes: Sequence[Comparison]) -> dict[str, list[Comparison]]:
    """Votes by the adapter that wrote both replies, without those whose writers are unknown."""
    groups: defaultdict[str, list[Comparison]] = defaultdict(list)
    for c in votes:
        if c.versions:
            groups["mixed" if len(set(c.versions)) > 1 else c.versions[0]].append(c)
    return groups
