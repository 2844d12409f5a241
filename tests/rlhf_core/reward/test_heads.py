"""Heads that are fitted exactly: on the tiny model, whose states hold what the replies say."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from torch.testing import assert_close

from rlhf_core.errors import NotEnoughDataError
from rlhf_core.records import Comparison
from rlhf_core.reward.heads import RIDGES, JudgedPairs, fit_head, fit_heads, vectors_of
from rlhf_core.reward.reward_data import prompt_key
from rlhf_core.reward.reward_model import Ensemble

KIND, RUDE = "yes of course, my friend", "no, go away"


@pytest.fixture
def votes(said):
    """The kind reply is better, whichever side it is on."""
    sides = [(KIND, RUDE, "a"), (RUDE, KIND, "b")]
    return [
        Comparison(said(f"what is {n}"), f"{a} {n}", f"{b} {n}", label)
        for n in range(20)
        for a, b, label in sides
    ]


def test_heads_prefer_what_raters_preferred_also_on_questions_that_they_have_not_seen(
    base, votes, said
):
    model = fit_heads(base, votes)
    prompts = [said(f"where is {n}") for n in range(10)]
    kind, rude = (model.score(prompts, [text] * 10) for text in (KIND, RUDE))
    assert (kind > rude).all()
    assert isinstance(model, Ensemble)


def test_every_question_is_left_out_by_one_member(base, votes):
    model = fit_heads(base, votes, members=6)
    unseen = model.unseen([c.prompt for c in votes])  # (6, 40)
    assert unseen.sum(0).tolist() == [1] * 40
    assert sorted(unseen.sum(1).tolist()) == [6, 6, 6, 6, 8, 8]  # two votes on each of 20
    keys = {prompt_key(c.prompt) for c in votes}
    assert all(own < keys for own in model.learnt_from)


def test_there_are_no_more_members_than_questions(base, votes):
    assert fit_heads(base, votes[:6], members=10).heads.shape[0] == 3
    alone = fit_heads(base, votes[:2])
    assert alone.heads.shape[0] == 1 and not alone.unseen([votes[0].prompt]).any()


def test_the_order_of_the_votes_and_their_sides_change_nothing(base, votes):
    other = {"a": "b", "b": "a", "tie": "tie"}
    turned = [Comparison(c.prompt, c.response_b, c.response_a, other[c.label]) for c in votes[::-1]]
    prompts, texts = zip(*((c.prompt, c.response_a) for c in votes), strict=True)
    one, two = (fit_heads(base, v).member_scores(prompts, texts) for v in (votes, turned))
    assert_close(one, two, atol=1e-4, rtol=1e-4)


def test_votes_without_a_meaning_give_scores_near_zero(base, votes):
    rng = np.random.default_rng(0)
    coins = [
        Comparison(c.prompt, c.response_a, c.response_b, rng.choice(["a", "b"])) for c in votes
    ]
    prompts, texts = zip(*((c.prompt, c.response_a) for c in votes), strict=True)
    meant, meaningless = (fit_heads(base, v).score(prompts, texts).std() for v in (votes, coins))
    assert meaningless < meant / 3


def test_the_pairs_of_one_opinion_count_as_one(base, votes, said):
    """Three times the same pair in one group is the pair once."""
    again = [
        Comparison(c.prompt, c.response_a, c.response_b, c.label, group=str(n))
        for n, c in enumerate(votes)
        for _ in range(3)
    ]
    prompts, texts = zip(*((c.prompt, c.response_a) for c in votes), strict=True)
    one, two = (fit_heads(base, v).score(prompts, texts) for v in (votes, again))
    assert_close(one, two, atol=1e-4, rtol=1e-4)


def test_ties_alone_are_too_little(base, said):
    ties = [Comparison(said("what is 1"), KIND, RUDE, "tie")]
    with pytest.raises(NotEnoughDataError, match="none of 1 comparisons prefers a response"):
        fit_heads(base, ties)


def test_a_vector_is_the_state_at_the_end_and_the_mean_over_the_response(base, said):
    pair = base.chat.encode_pair(said("what is 1"), KIND)
    ids = torch.tensor([pair[0]])
    with torch.no_grad(), base.using(None):
        states = base.model.get_decoder()(input_ids=ids).last_hidden_state[0].double()
    expected = torch.cat([states[-1], states[-pair[1] :].mean(0)])
    longer = base.chat.encode_pair(said("what is 1"), KIND * 3)
    found = vectors_of(base, [pair, longer])  # beside a longer one, with padding
    assert_close(found[0], expected, atol=1e-4, rtol=1e-4)


def test_the_scores_do_not_change_with_the_policy(base, votes, disturb):
    """The base is asked without an adapter, whatever is attached."""
    model = fit_heads(base, votes)
    prompts, texts = zip(*((c.prompt, c.response_a) for c in votes), strict=True)
    before = model.member_scores(prompts, texts)
    base.attach("other")
    disturb(base, "other", seed=1)
    with base.using("other"):
        again = fit_heads(base, votes).member_scores(prompts, texts)
    assert_close(again, before)
    base.drop("other")


@given(st.integers(0, 2**31), st.sampled_from(RIDGES))
def test_a_head_is_the_minimum_that_an_optimizer_finds(seed, ridge):
    rng = np.random.default_rng(seed)
    n, r = 12, 4
    pairs = rng.normal(size=(n, r)) / 2
    wanted, weights = rng.choice([0.0, 0.5, 1.0], n), rng.uniform(0.2, 2, n)
    votes = JudgedPairs(
        pairs=torch.tensor(pairs),
        directions=torch.eye(r),
        scale=1.0,
        preferred=torch.tensor(wanted),
        weights=torch.tensor(weights),
        questions=["q"] * n,
    )

    def loss(head):
        margins = pairs @ head
        likely = wanted * margins - np.logaddexp(0, margins)
        return -(weights * likely).sum() + ridge / 2 * head @ head

    found = fit_head(votes, torch.ones(n, dtype=torch.bool), ridge).numpy()
    assert found == pytest.approx(minimize(loss, np.zeros(r), tol=1e-12).x, abs=1e-3)
