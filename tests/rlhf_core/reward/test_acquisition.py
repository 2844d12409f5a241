"""How uncertain each pair is: the closed form beside Monte Carlo, on vectors and the tiny model."""

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from rlhf_core.errors import AdapterError, NotEnoughDataError
from rlhf_core.records import Comparison
from rlhf_core.reward.acquisition import (
    FILE,
    Uncertainty,
    chance_variance,
    fit_uncertainty,
    posterior,
)
from rlhf_core.reward.heads import vectors_and_prompts, votes_from
from rlhf_core.reward.reading import Reading

KIND, RUDE = "yes of course, my friend", "no, go away"


def some_votes(seed, *, n=12, size=6):
    """Votes on random vectors, those vectors, and a mean state for each prompt."""
    rng = np.random.default_rng(seed)
    vectors = torch.tensor(rng.normal(size=(2 * n, size)))
    comparisons = [
        Comparison([{"role": "user", "content": f"{i}?"}], "x", "y", rng.choice(["a", "b", "tie"]))
        for i in range(n)
    ]
    return votes_from(vectors, comparisons), vectors, torch.tensor(rng.normal(size=(n, size // 2)))


@given(st.integers(0, 2**31), st.sampled_from([0.1, 1.0, 10.0]))
def test_the_variance_is_that_of_a_laplace_approximation_in_all_dimensions(seed, ridge):
    votes, vectors, prompts = some_votes(seed)
    found = posterior(votes, prompts, ridge=ridge)
    pairs = (vectors[::2] - vectors[1::2]) / votes.scale  # (N, d)
    head = (found.head.double() * votes.scale)[:, None]  # (d, 1)
    chance = (pairs @ head).sigmoid()
    size = pairs.shape[1]
    curve = (pairs * chance * (1 - chance)).T @ pairs + ridge * torch.eye(size)
    apart = torch.randn(5, size, generator=torch.Generator().manual_seed(seed)).double()
    wanted = ((apart / votes.scale) @ curve.inverse() * (apart / votes.scale)).sum(1)
    mean, variance = found.difference(apart)
    assert_close(variance, wanted, rtol=1e-4, atol=1e-5)
    assert_close(mean, (apart @ (head / votes.scale))[:, 0], rtol=1e-5, atol=1e-6)


@given(st.floats(-6, 6), st.floats(0, 25))
def test_the_variance_of_the_chance_is_what_many_heads_give(mean, variance):
    [found] = chance_variance(torch.tensor([mean]).double(), torch.tensor([variance]).double())
    rng = np.random.default_rng(0)
    chances = 1 / (1 + np.exp(-(mean + np.sqrt(variance) * rng.normal(size=40_000))))
    assert 0 <= found <= 0.25
    assert float(found) == pytest.approx(chances.var(), abs=0.005)


@given(st.integers(0, 2**31))
def test_equal_replies_have_no_variance_and_no_other_pair_has_less_than_none(seed):
    votes, vectors, prompts = some_votes(seed)
    found = posterior(votes, prompts)
    mean, variance = found.difference(torch.zeros(1, vectors.shape[1]).double())
    assert chance_variance(mean, variance).tolist() == [0.0]
    unsure = found.of_pairs(torch.cat([vectors[:4], vectors[:1]]))
    assert all(0 <= value <= 0.25 for value in unsure.values())
    assert set(unsure) <= {*combinations(range(5), 2)} - {(0, 4)}  # they say the same


@given(st.integers(0, 2**31))
def test_a_vote_on_a_pair_leaves_less_variance_than_before(seed):
    votes, vectors, prompts = some_votes(seed, n=4)
    apart = vectors[:1] - vectors[1:2]
    before = posterior(votes, prompts, ridge=1.0).prior.double() * apart.square().sum()
    after = posterior(votes, prompts, ridge=1.0).difference(apart)[1]
    assert after < before


def test_prompts_like_those_that_were_judged_are_known_and_others_are_not():
    generator = torch.Generator().manual_seed(0)
    prompts = torch.randn(12, 64, generator=generator).double()
    votes, _, _ = some_votes(0)
    found = posterior(votes, prompts)
    assert all(found.knows(prompt) for prompt in prompts)
    noise = torch.randn(12, 64, generator=generator).double()
    near, far = 0.05 * noise, 1.0 * noise
    assert all(found.knows(prompt + by) for prompt, by in zip(prompts, near, strict=True))
    assert not any(found.knows(prompt + by) for prompt, by in zip(prompts, far, strict=True))


@pytest.fixture
def votes(said):
    return [Comparison(said(f"what is {n}"), f"{KIND} {n}", f"{RUDE} {n}", "a") for n in range(12)]


def test_it_is_sure_of_what_was_judged_and_unsure_of_what_is_new(base, votes, said, tmp_path):
    found = fit_uncertainty(base, votes)
    texts = [f"{KIND} 3", f"{RUDE} 3", "12345 67890 98765", "zzz zzz zzz"]
    pairs = [base.chat.encode_pair(said("what is 3"), text) for text in texts]
    vectors, prompts = vectors_and_prompts(base, pairs)
    unsure = found.of_pairs(vectors)
    assert max(unsure, key=unsure.get) != (0, 1) and unsure[(0, 1)] < 0.5 * max(unsure.values())
    assert found.knows(prompts[0])
    found.save(tmp_path)
    assert Uncertainty.load(tmp_path).of_pairs(vectors) == unsure


def test_a_model_that_cannot_be_read_says_so(tmp_path):
    with pytest.raises(AdapterError, match=FILE):
        Uncertainty.load(tmp_path)


def test_ties_alone_leave_nothing_to_be_uncertain_about(base, said):
    with pytest.raises(NotEnoughDataError, match="none of 1 comparisons"):
        fit_uncertainty(base, [Comparison(said("1?"), KIND, RUDE, "tie")])


@pytest.mark.parametrize("words", [1, 9])
def test_what_is_read_in_parts_is_what_is_read_at_once(base, said, monkeypatch, words):
    """Of a short prompt and a long one, whatever runs between two parts."""
    monkeypatch.setattr("rlhf_core.reward.reading.part_tokens", lambda device: 7)
    texts = [KIND, RUDE, "yes", f"{KIND}, {KIND}"]
    pairs = [base.chat.encode_pair(said("is it so? " * words), text) for text in texts]
    vectors, prompts = vectors_and_prompts(base, pairs)
    reading, parts = Reading(base, pairs), 1
    while not reading.read():
        parts += 1
        base.respond([said("hello")], adapter=None, seed=0)
    assert parts > 3
    assert_close(reading.vectors, vectors, atol=1e-4, rtol=1e-4)
    assert_close(reading.prompt, prompts[0], atol=1e-4, rtol=1e-4)


def test_replies_to_two_prompts_are_not_read_together(base, said):
    pairs = [base.chat.encode_pair(said(text), KIND) for text in ("1?", "2?")]
    with pytest.raises(ValueError, match="2 prompts"):
        Reading(base, pairs)
