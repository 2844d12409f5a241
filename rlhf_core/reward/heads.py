"""Linear heads on the bare base: a reward model that is solved, not trained.

What the base makes of a response is a vector. A head weighs it; the score is their product.
The best head for some votes, a logistic regression with a ridge, is one point that is computed
exactly. So heads that were fitted to other votes differ because of these votes alone, and twenty of
them cost a second: they can say how uncertain a score is. They learn less from many votes than a
network that is trained (`train_reward.py`), and no less from a hundred.

Members are folds: each is fitted without its share of the questions (`unseen`). Nothing that is
optimised against these scores may fit the heads as well.

Shapes: N responses or pairs of them, d numbers in a vector, K members, r <= min(N, d) directions.
"""

from array import array
from collections.abc import Sequence, Set
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from rlhf_core.errors import NotEnoughDataError
from rlhf_core.model.base_model import Base
from rlhf_core.model.split import whole_pass
from rlhf_core.model.token_batches import pass_tokens, token_batches
from rlhf_core.records import Comparison, Prompt
from rlhf_core.reward.reward_data import opinion_shares, prompt_key

# Of a pair's vector, whose mean square length is 1. The one that predicts votes on unseen questions
# best is taken.
RIDGES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
PREFERRED = {"a": 1.0, "b": 0.0, "tie": 0.5}  # the first response
STEPS = 30  # of Newton's method; it ends earlier
MOST_KNOWN = 2**15  # responses whose scores are remembered
AT_ONCE = 512  # responses whose vectors are in memory


class LinearHeads:
    """An ensemble of heads on the vectors of the bare base, which no vote has changed.

    Args:
        base: The shared base.
        heads: A weight for each number of a vector, by member. (K, d)
        learnt_from: By member, the keys of the questions whose votes fitted it.
    """

    def __init__(self, base: Base, heads: Tensor, learnt_from: Sequence[Set[str]]) -> None:
        self.base, self.heads, self.learnt_from = base, heads, learnt_from
        self._known: dict[bytes, Tensor] = {}  # scores by all members, by a response's tokens

    def score(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Tensor:
        """Score of each response, in log-odds: the mean over the members; (N,)."""
        return self.member_scores(prompts, responses).mean(0)

    def member_scores(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Tensor:
        """Score of each response by each member; (K, N)."""
        pairs = [self.base.chat.encode_pair(p, r) for p, r in zip(prompts, responses, strict=True)]
        keys = [array("i", ids).tobytes() for ids, _ in pairs]
        new = {key: pair for key, pair in zip(keys, pairs, strict=True) if key not in self._known}
        rest = iter(new)
        while some := list(islice(rest, AT_ONCE)):
            vectors = vectors_of(self.base, [new[key] for key in some])  # (n, d)
            self._known |= zip(some, vectors @ self.heads.T, strict=True)
        scores = torch.stack([self._known[key] for key in keys], dim=1).float()
        for key in list(self._known)[: max(0, len(self._known) - MOST_KNOWN)]:
            del self._known[key]  # the oldest
        return scores

    def unseen(self, prompts: Sequence[Prompt]) -> Tensor:
        """Whether each member was fitted without votes on each prompt; (K, N)."""
        keys = [prompt_key(prompt) for prompt in prompts]
        return torch.tensor([[key not in own for key in keys] for own in self.learnt_from])


@torch.no_grad()
def vectors_of(base: Base, pairs: Sequence[tuple[Sequence[int], int]]) -> Tensor:
    """What the bare base makes of responses: its last hidden states, at the end and in the mean.

    Args:
        base: The shared base.
        pairs: Tokens of a prompt with its response, and how many of them are the response's.

    Returns:
        The state at the end token, and beside it the mean over the response; (N, d) in float64.
    """
    return vectors_and_prompts(base, pairs)[0]


@torch.no_grad()
def vectors_and_prompts(
    base: Base, pairs: Sequence[tuple[Sequence[int], int]]
) -> tuple[Tensor, Tensor]:
    """The same, and beside it the mean state over each prompt; (N, d) and (N, d / 2)."""
    found: dict[int, tuple[Tensor, Tensor]] = {}
    rows = [tuple(ids) for ids, _ in pairs]
    for places in token_batches([len(row) for row in rows], tokens=pass_tokens(base.device)):
        ids, mask = base.pad([rows[place] for place in places], side="right")
        with base.using(None):
            states = whole_pass(base, ids, mask)  # (rows, T, d / 2)
        for place, row in zip(places, states, strict=True):
            own = row[: len(rows[place])].double().cpu()
            prompt, response = own[: -pairs[place][1]], own[-pairs[place][1] :]
            found[place] = torch.cat([response[-1], response.mean(0)]), prompt.mean(0)
    vectors, prompts = zip(*(found[place] for place in range(len(rows))), strict=True)
    return torch.stack(vectors), torch.stack(prompts)


def fit_heads(
    base: Base,
    comparisons: Sequence[Comparison],
    *,
    members: int = 10,
) -> LinearHeads:
    """Fit heads to comparisons, each without its share of the questions.

    A tie is half a preference for each response. The pairs of one opinion count as one together.

    Args:
        base: The shared base.
        comparisons: What raters preferred.
        members: How many heads; at most as many as there are questions.

    Raises:
        NotEnoughDataError: No comparison prefers one response over the other.

    Source:
        Bishop 2006, Pattern Recognition and Machine Learning, 4.3.3: Newton's method for a logistic
        regression. The ridge is chosen by cross-validation.
    """
    require_preferences(comparisons)
    votes = votes_of(base, comparisons)
    _, fits = best_ridge(votes, members=members)
    heads = torch.stack(fits) @ votes.directions  # (K, d)
    fold, k = _folds(votes.questions, members), len(fits)
    learnt_from = [{q for q in fold if k == 1 or fold[q] != number} for number in range(k)]
    return LinearHeads(base, heads, learnt_from)


def require_preferences(comparisons: Sequence[Comparison]) -> None:
    """Refuse comparisons from which nothing can be fitted.

    Raises:
        NotEnoughDataError: No comparison prefers one response over the other.
    """
    if all(c.label == "tie" for c in comparisons):
        raise NotEnoughDataError(
            f"none of {len(comparisons)} comparisons prefers a response; collect more votes"
        )


@dataclass(frozen=True, slots=True)
class JudgedPairs:
    """Comparisons as numbers, along the directions in which their pairs differ at all."""

    pairs: Tensor  # the first response's vector less the second's, along `directions` (N, r)
    directions: Tensor  # orthogonal, each as long as 1 / scale (r, d)
    scale: float  # root mean square length of a pair's vector
    preferred: Tensor  # the first response: 1, 0, or 0.5 for a tie (N,)
    weights: Tensor  # (N,)
    questions: Sequence[str]  # (N,)


def votes_of(base: Base, comparisons: Sequence[Comparison]) -> JudgedPairs:
    """What `fit_heads` fits, from the vectors of the bare base."""
    sides = [(c.prompt, response) for c in comparisons for response in (c.response_a, c.response_b)]
    encoded = [base.chat.encode_pair(prompt, response) for prompt, response in sides]
    unique = {tuple(ids): (ids, own) for ids, own in encoded}
    rows = dict(zip(unique, vectors_of(base, [*unique.values()]), strict=True))
    return votes_from(torch.stack([rows[tuple(ids)] for ids, _ in encoded]), comparisons)


def votes_from(vectors: Tensor, comparisons: Sequence[Comparison]) -> JudgedPairs:
    """The same from vectors: of both responses of each comparison, one after the other; (2N, d)."""
    shares = opinion_shares(comparisons)
    pairs = vectors[::2] - vectors[1::2]  # (N, d)
    # A ridge never leaves the directions of the pairs, which are few if a vector is long.
    along, size, directions = torch.linalg.svd(pairs, full_matrices=False)
    scale = (size.square().sum() / len(pairs)).sqrt().clamp(min=1e-12)
    return JudgedPairs(
        pairs=along * size / scale,
        directions=directions / scale,
        scale=scale.item(),
        preferred=pairs.new_tensor([PREFERRED[c.label] for c in comparisons]),
        weights=pairs.new_tensor([c.weight * s for c, s in zip(comparisons, shares, strict=True)]),
        questions=[prompt_key(c.prompt) for c in comparisons],
    )


def best_ridge(votes: JudgedPairs, *, members: int = 10) -> tuple[float, list[Tensor]]:
    """The ridge that foretells votes on unseen questions best, and its head for each fold; (r,)."""
    kept = kept_by_folds(votes.questions, members)
    fits = {ridge: [fit_head(votes, rows, ridge) for rows in kept] for ridge in RIDGES}
    likely = {r: float(votes.weights @ foretold(votes, fits[r], kept)) for r in RIDGES}
    best = max(RIDGES, key=likely.__getitem__)
    return best, fits[best]


def kept_by_folds(questions: Sequence[str], members: int = 10) -> list[Tensor]:
    """Which votes fit each member: all but its fold's, or all if there is one fold; (N,) each."""
    fold = _folds(questions, members)
    k = max(fold.values()) + 1
    own = torch.tensor([fold[question] for question in questions])  # (N,)
    return [own != number if k > 1 else own >= 0 for number in range(k)]


def _folds(questions: Sequence[str], members: int) -> dict[str, int]:
    """Which fold each question is in; at most as many folds as questions."""
    known = sorted(set(questions))
    k = max(1, min(members, len(known)))
    return {question: number % k for number, question in enumerate(known)}


def fit_head(votes: JudgedPairs, rows: Tensor, ridge: float) -> Tensor:
    """The head that fits some of the votes best, by Newton's method; (r,)."""
    pairs, weights, wanted = votes.pairs[rows], votes.weights[rows], votes.preferred[rows]
    head = pairs.new_zeros(pairs.shape[1])
    square = ridge * torch.eye(len(head), dtype=pairs.dtype)
    for _ in range(STEPS):
        chance = (pairs @ head).sigmoid()
        slope = pairs.T @ (weights * (chance - wanted)) + ridge * head
        curve = (pairs * (weights * chance * (1 - chance))[:, None]).T @ pairs + square
        step = torch.linalg.solve(curve, slope)
        head = head - step
        if step.norm() < 1e-8 * (1 + head.norm()):
            break
    return head


def foretold(votes: JudgedPairs, heads: Sequence[Tensor], kept: Sequence[Tensor]) -> Tensor:
    """Log-likelihood of each vote, by the head that was fitted without its question; (N,).

    That of a tie is 0: it says nothing about which response is better.
    """
    likely = votes.preferred.new_zeros(len(votes.preferred))
    for head, rows in zip(heads, kept, strict=True):
        left = ~rows if not rows.all() else rows
        signs = (2 * votes.preferred[left] - 1).sign()
        margins = votes.pairs[left] @ head * signs
        likely[left] = torch.where(signs != 0, torch.nn.functional.logsigmoid(margins), 0.0)
    return likely
