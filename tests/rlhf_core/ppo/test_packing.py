import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from rlhf_core.ppo.packing import packed, spread


def rollout(prompts: list[int], responses: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids that name their place, padded like a rollout: prompts left, responses right."""
    before, after = max(prompts), max(responses)
    ids = torch.zeros(len(prompts), before + after, dtype=torch.long)
    attention = torch.zeros_like(ids)
    for i, (p, t) in enumerate(zip(prompts, responses, strict=True)):
        real = slice(before - p, before + t)
        ids[i, real] = torch.arange(p + t) + 100 * (i + 1)
        attention[i, real] = 1
    return ids, attention


sizes = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 6)), min_size=1, max_size=7)


@settings(max_examples=60, deadline=None)
@given(sizes=sizes, rows=st.integers(1, 8))
def test_every_response_token_is_read_once_at_the_state_before_it(sizes, rows):
    prompts, responses = [p for p, _ in sizes], [t for _, t in sizes]
    ids, attention = rollout(prompts, responses)
    width = max(responses)
    parts = list(packed(ids, attention, width, rows=rows))
    assert all(len(part.ids) <= rows for part in parts)
    for part in parts:
        assert part.ids.shape[1] == part.attention.sum(1).max()
        before = part.ids[part.states]
        assert_close(part.targets, before + 1)  # neighbours in what was said
    found = spread([part.targets.float() for part in parts], parts, (len(ids), width))
    assert_close(found, ids[:, -width:].float() * attention[:, -width:])


def test_rows_of_like_length_go_together():
    ids, attention = rollout([2, 2, 2, 2], [6, 1, 6, 1])
    widths = [part.ids.shape[1] for part in packed(ids, attention, 6, rows=2)]
    assert widths == [3, 8]


def test_what_is_spread_keeps_its_gradient():
    ids, attention = rollout([2, 1], [1, 3])
    parts = list(packed(ids, attention, 3, rows=1))
    values = [torch.ones(len(part.targets), requires_grad=True) for part in parts]
    (spread(values, parts, (2, 3)) * torch.arange(6.0).view(2, 3)).sum().backward()
    grads = torch.cat([v.grad for v in values])
    assert sorted(grads.tolist()) == [0.0, 3.0, 4.0, 5.0]
