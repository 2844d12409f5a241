import pytest
import torch
import trl

from rlhf_core.config import SFTSettings
from rlhf_core.errors import DivergenceError, MemoryExhaustedError, NotEnoughDataError
from rlhf_core.model.loading import load_base
from rlhf_core.records import Demonstration
from rlhf_core.train_sft import SFTTrainer, sft_row, train_sft
from tests.rlhf_core.templates import GEMMA, SMOLLM

SETTINGS = SFTSettings(epochs=6, min_steps=12, learning_rate=1e-2, batch_size=8)


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


@pytest.mark.parametrize("kind", [GEMMA, SMOLLM], ids=["own end of turn", "padded with the end"])
def test_the_end_of_a_turn_is_learnt(load_tiny, demonstrations, kind):
    base = load_tiny(kind)
    base.attach("policy")
    strict = [
        Demonstration([*d.prompt, *d.prompt], d.response)  # two turns of one speaker
        for d in demonstrations
    ]
    train_sft(base, strict, adapter="policy", settings=SETTINGS)
    [reply] = base.respond([strict[0].prompt], adapter="policy", temperature=0)
    assert (reply.text, reply.finished) == ("yes please", True)
    assert reply.token_ids[-1] == base.chat.end


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


def test_the_prompt_is_not_learned_and_the_end_is(base, said):
    row = sft_row(base.chat, Demonstration(said("hello"), "yes"))
    learned = [label for label in row["labels"] if label != -100]
    assert base.tokenizer.decode(learned) == "yes</s>"
    assert len(row["labels"]) == len(row["input_ids"])


def test_a_demonstration_longer_than_a_reply_may_be_has_no_end_to_learn(base, said):
    row = sft_row(base.chat, Demonstration(said("hello"), "yes " * 20))
    learned = [label for label in row["labels"] if label != -100]
    assert learned == base.chat.cut_reply("yes " * 20)
    assert len(learned) == base.reply.tokens


def test_no_demonstrations_are_not_enough(base):
    base.attach("policy")
    with pytest.raises(NotEnoughDataError, match="0 demonstrations"):
        train_sft(base, [], adapter="policy", settings=SETTINGS)


def test_a_loss_that_is_not_finite_stops_training(base, demonstrations):
    base.attach("policy")
    for parameter in base.model.parameters():
        parameter.data.fill_(float("nan"))
    with pytest.raises(DivergenceError, match="SFT loss is not finite"):
        train_sft(base, demonstrations, adapter="policy", settings=SETTINGS)


def test_a_loss_that_explodes_stops_training(base, demonstrations):
    base.attach("policy")
    base.model.get_output_embeddings().weight.data *= 1000
    with pytest.raises(DivergenceError, match="SFT loss has grown to"):
        train_sft(base, demonstrations, adapter="policy", settings=SETTINGS)


def test_the_pass_whose_responses_score_best_is_kept(base, demonstrations, said):
    base.attach("policy")
    scores, seen = iter([1.0, 3.0, 2.0]), []

    def score(prompts, responses):
        seen.append({n: p.detach().clone() for n, p in base.model.named_parameters()})
        return torch.full((len(responses),), next(scores))

    metrics = train_sft(
        base,
        demonstrations,
        adapter="policy",
        settings=SETTINGS.model_copy(update={"epochs": 3, "min_steps": 6}),
        score=score,
        prompts=[said("hello")],
    )
    assert (metrics["sft/score"], metrics["sft/passes"]) == (3.0, 2.0)
    assert all(torch.equal(p, seen[1][n]) for n, p in base.model.named_parameters())
    assert not all(torch.equal(p, seen[2][n]) for n, p in base.model.named_parameters())


def test_of_many_passes_over_few_demonstrations_only_some_are_scored(base, demonstrations, said):
    base.attach("policy")
    asked = []

    def score(prompts, responses):
        asked.append(len(prompts))
        return torch.zeros(len(responses))

    settings = SETTINGS.model_copy(update={"epochs": 2, "min_steps": 20, "scored_prompts": 3})
    prompts = [said(f"what is {n}") for n in range(5)]
    train_sft(
        base, demonstrations, adapter="policy", settings=settings, score=score, prompts=prompts
    )
    assert asked == [3, 3]  # ten passes, of which two are scored


def test_a_score_without_prompts_is_not_enough(base, demonstrations):
    base.attach("policy")
    with pytest.raises(NotEnoughDataError, match="0 prompts"):
        train_sft(
            base, demonstrations, adapter="policy", settings=SETTINGS, score=lambda p, r: None
        )


@pytest.mark.parametrize("micro", [1, 3, 4])
def test_the_size_of_micro_batches_changes_nothing(model_path, said, micro):
    replies = ("yes", "no thanks please", "kind red green blue")
    shown = [Demonstration(said(f"what is {n}"), replies[n % 3]) for n in range(12)]
    found, losses = [], []
    for size in (0, micro):
        torch.manual_seed(1)
        base = load_base(str(model_path), quantization="none", device="cpu")
        base.attach("policy")
        settings = SETTINGS.model_copy(
            update={"epochs": 2, "min_steps": 1, "batch_size": 12, "micro_batch_size": size}
        )
        done = train_sft(base, shown, adapter="policy", settings=settings)
        losses.append(done["loss/sft"])
        found.append({n: p for n, p in base.model.named_parameters() if ".policy." in n})
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)  # and not that of a part of the step
    for name, weight in found[0].items():
        torch.testing.assert_close(found[1][name], weight, rtol=0, atol=2e-3)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes"),
    ],
)
def test_too_little_memory_is_one_line_with_the_setting_to_lower(base, demonstrations, error):
    base.attach("policy")

    def fail(_share, _metrics):
        raise error

    with pytest.raises(MemoryExhaustedError, match=r"lower sft\.micro_batch_size") as found:
        settings = SETTINGS.model_copy(update={"halve_micro_batch": False})
        train_sft(base, demonstrations, adapter="policy", settings=settings, progress=fail)
    assert "\n" not in str(found.value)
