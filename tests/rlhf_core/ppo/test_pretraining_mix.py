import pytest
import torch

from rlhf_core.ppo.pretraining_mix import PretrainingMix
from rlhf_core.records import Demonstration


def test_all_of_a_text_is_learned_and_only_the_response_of_a_demonstration(base, said):
    base.attach("policy")
    text, reply = "red green blue", "yes please"
    plain = PretrainingMix(base, [], [text], seed=0)
    ids = torch.tensor([[*base.tokenizer(text).input_ids, base.tokenizer.eos_token_id]])
    expected = base.model(input_ids=ids, labels=ids).loss
    torch.testing.assert_close(plain.loss(base.model, plain.draw(3)), expected)
    shown = PretrainingMix(base, [Demonstration(said("hello"), reply)], [], seed=0)
    tokens = [*base.tokenizer(reply).input_ids, base.tokenizer.eos_token_id]
    logprobs = base.logprobs([said("hello")], [tokens], adapter=None)[0]
    with torch.no_grad():
        torch.testing.assert_close(shown.loss(base.model, shown.draw(2)), -logprobs.mean())


def test_texts_are_drawn_by_the_mixs_own_seed(base):
    base.attach("policy")
    texts = ["red", "green sky", "blue grass please", "kind"]
    losses = []
    for seed in (1, 1, 2):
        torch.rand(1)  # the global generator has no say
        mix = PretrainingMix(base, [], texts, seed=seed)
        losses.append([mix.loss(base.model, mix.draw(2)).item() for _ in range(4)])
    assert losses[0] == losses[1] != losses[2]


def test_long_texts_are_cut(base):
    base.attach("policy")
    mix = PretrainingMix(base, [], ["red " * 4 * base.reply.window], seed=0)
    assert mix.loss(base.model, mix.draw(1)) > 0


@pytest.mark.parametrize("parts", [2, 4, 8])
def test_the_mean_over_parts_is_the_loss_of_the_whole_however_long_its_rows(base, parts):
    base.attach("policy")
    mix = PretrainingMix(base, [], ["red", "green sky", "blue grass please " * 9], seed=0)
    drawn = mix.draw(8)
    losses = [mix.loss(base.model, drawn, part=k, parts=parts) for k in range(parts)]
    torch.testing.assert_close(torch.stack(losses).mean(), mix.loss(base.model, drawn))


def test_texts_without_a_token_to_learn_are_never_drawn(base):
    base.attach("policy")
    mix = PretrainingMix(base, [], ["", "red"], seed=0)
    assert all(len(row["labels"]) > 1 for row in mix.draw(20))
