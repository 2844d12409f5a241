"""Which new raters have agreed with others elsewhere, and so count alone: pure functions.

Accounts of one origin may be one person, so what they say of each other proves nothing. Who can
speak for a new rater is whoever is new no more, was made elsewhere and is not quarantined; and the
gold questions. A prompt is one opinion, however many of its replies were compared. Ties say
nothing. The order of raters and judgements changes nothing.

Who has agreed may still lie where nobody looks: this shows that an account reads, not that it is
honest.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from feedback_store.raters.agreement import PairVote
from feedback_store.raters.reliability import at_least

# By chance somebody agrees this often in a way that counts as proof; so five prompts (1/32) are the
# fewest that can prove anything, if there is agreement on all of them.
BY_CHANCE = 0.05


class Account(NamedTuple):
    """A rater, as far as proof depends on it."""

    rater_id: str
    origin: str | None
    new: bool
    heard: bool  # not quarantined
    gold_right: int
    gold_total: int


def proven(accounts: Sequence[Account], judgements: Iterable[PairVote]) -> dict[str, bool]:
    """Whether each new rater with an origin agrees with others more often than a coin would."""
    judgements = list(judgements)
    elders = {one.rater_id: one.origin for one in accounts if one.heard and not one.new}
    said: dict[tuple[str, str, str], Counter[str | None]] = defaultdict(Counter)
    for vote in judgements:
        if vote.rater_id in elders:
            said[vote.subject][elders[vote.rater_id]] += vote.verdict
    newcomers = {one.rater_id: one for one in accounts if one.new and one.origin is not None}
    agreed: Counter[tuple[str, str]] = Counter()  # by rater and prompt: above 0, or below
    for vote in judgements:
        if (one := newcomers.get(vote.rater_id)) and (others := said.get(vote.subject)):
            elsewhere = sum(others.values()) - others[one.origin]
            agreed[one.rater_id, vote.subject[0]] += vote.verdict * elsewhere
    right = Counter({rater: one.gold_right for rater, one in newcomers.items()})
    total = Counter({rater: one.gold_total for rater, one in newcomers.items()})
    for (rater, _), balance in agreed.items():
        right[rater] += balance > 0
        total[rater] += balance != 0
    return {rater: at_least(right[rater], total[rater], 0.5) < BY_CHANCE for rater in newcomers}
