import pytest
import torch
import trl

from rlhf_core.config import SFTSettings
from rlhf_core.errors import DivergenceError, NotEnoughDataError
from rlhf_core.records import Demonstration
from rlhf_core.train_sft import SFTTrainer, sft_row, train_sft

SETTINGS = SFTSettings(epochs=6, min_steps=12, learning_rate=1e-2, batch_size=8, max_tokens=64)


@pytest.fixture
def demonstrations(said) -> list[Demonstration]:
    return [Demonstration(said(f"what is {c}"), "yes please") for c in ("red", "blue")] * 8


def test_it_is_trls_sft_trainer():
    assert issubclass(SFTTrainer, trl.SFTTrainer)


def test_the_adapter_learns_to_imitate(base, demonstrations, said):
    base.attach("policy")
    shares = []
    metrics = train_sft(
        base,
        demonstrations,
        adapter="policy",
        settings=SETTINGS,
        progress=lambda share, _: shares.append(share),
    )
    assert shares == [i / 12 for i in range(1, 13)]
    assert metrics["loss/sft"] < 1.0
    replies = base.respond(
        [said("what is green")], adapter="policy", max_new_tokens=12, temperature=0
    )
    assert replies[0].text == "yes please"
    assert replies[0].finished


def test_only_the_named_adapter_changes(base, demonstrations, disturb):
    ids = torch.arange(5, 15)[None]
    base.attach("policy")
    base.attach("other")
    disturb(base, "other")

    def outputs() -> list[torch.Tensor]:
        found = []
        for name in ("other", None):
            with torch.no_grad(), base.using(name):
                found.append(base.model(input_ids=ids).logits)
        return found

    before = outputs()
    settings = SETTINGS.model_copy(update={"epochs": 1})
    train_sft(base, demonstrations, adapter="policy", settings=settings)
    assert all(torch.equal(a, b) for a, b in zip(before, outputs(), strict=True))
    assert "forward" not in vars(base.model.get_base_model())
    assert not any(p.requires_grad for p in base.model.parameters())


def test_the_prompt_is_not_learned_and_the_end_is(tokenizer, said):
    row = sft_row(tokenizer, Demonstration(said("hello"), "yes"), 64)
    learned = [label for label in row["labels"] if label != -100]
    assert tokenizer.decode(learned) == "yes</s>"
    assert len(row["labels"]) == len(row["input_ids"])


def test_no_demonstrations_are_not_enough(base):
    base.attach("policy")
    with pytest.raises(NotEnoughDataError, match="0 demonstrations"):
        train_sft(base, [], adapter="policy", settings=SETTINGS)


def test_a_loss_that_is_no_number_stops_training(base, demonstrations):
    base.attach("policy")
    for parameter in base.model.parameters():
        parameter.data.fill_(float("nan"))
    with pytest.raises(DivergenceError, match="SFT loss is not finite"):
        train_sft(base, demonstrations, adapter="policy", settings=SETTINGS)
