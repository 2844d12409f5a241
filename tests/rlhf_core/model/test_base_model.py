import pytest
import torch
from safetensors.torch import load_file, save_file

from rlhf_core.config import LoraSettings
from rlhf_core.errors import AdapterError, InvalidInputError
from rlhf_core.model.adapters import publish_adapter
from rlhf_core.model.base_model import Base
from rlhf_core.model.loading import load_base
from tests.rlhf_core.templates import GEMMA, SMOLLM, TINY

IDS = torch.arange(5, 21).reshape(2, 8)


def logits(base: Base, adapter: str | None) -> torch.Tensor:
    with torch.no_grad(), base.using(adapter):
        return base.model(input_ids=IDS).logits


def test_a_fresh_adapter_changes_nothing_until_it_is_trained(base, disturb):
    before = base.model(input_ids=IDS).logits
    base.attach("policy-000001")
    assert torch.equal(logits(base, "policy-000001"), before)
    disturb(base, "policy-000001")
    assert not torch.equal(logits(base, "policy-000001"), before)
    assert torch.equal(logits(base, None), before)


def test_a_fresh_adapter_follows_from_its_seed_and_disturbs_no_other_randomness(base):
    torch.manual_seed(5)
    wanted = torch.rand(1)
    torch.manual_seed(5)
    for name, seed in (("one", 3), ("again", 3), ("other", 4)):
        base.attach(name, seed=seed)
    assert torch.equal(torch.rand(1), wanted)
    by_name = {
        name: torch.cat([weight.flatten() for weight in base.weights(name)])
        for name in base.adapters
    }
    assert torch.equal(by_name["one"], by_name["again"])
    assert not torch.equal(by_name["one"], by_name["other"])


@pytest.mark.parametrize("name", ["", "a.b", "a/b", "a b"])
def test_an_adapter_name_with_other_signs_is_refused(base, name):
    with pytest.raises(AdapterError, match="letters, digits"):
        base.attach(name)


def test_layers_that_the_model_does_not_have_are_named_in_one_line(base):
    with pytest.raises(InvalidInputError, match="no adapter fits lora\\.target_modules 'c_attn'"):
        base.attach("policy", lora=LoraSettings(target_modules="c_attn"))


def test_a_negative_temperature_is_refused(base, said):
    with pytest.raises(InvalidInputError, match="temperature cannot be -1"):
        base.respond([said("hello")], adapter=None, max_new_tokens=2, temperature=-1)


def test_a_digest_tells_how_the_base_is_stored(model_path):
    digests = {
        load_base(str(model_path), quantization=kind, device="cpu").digest(None)
        for kind in ("none", "nf4", "int8")
    }
    assert len(digests) == 3


def test_a_digest_changes_with_the_adapters_weights(base, disturb):
    base.attach("policy")
    before = base.digest("policy")
    assert base.digest("policy") == before != base.digest(None)
    disturb(base, "policy")
    assert base.digest("policy") != before


def test_using_an_adapter_is_undone_even_by_an_error(base, disturb):
    base.attach("left")
    base.attach("right")
    with base.using("left"):
        with pytest.raises(ZeroDivisionError), base.using("right"):
            raise ZeroDivisionError
        assert base.active == "left"
    assert base.active is None


def test_switching_never_changes_what_is_trainable(base):
    base.attach("policy", trainable=True)
    base.attach("reward")

    def trainable() -> set[str]:
        return {n for n, p in base.model.named_parameters() if p.requires_grad}

    before = trainable()
    assert before and all(".policy." in name for name in before)
    with base.using("reward"), base.using(None):
        assert trainable() == before
    with base.training("reward"):
        assert all(".reward." in name for name in trainable())
    assert trainable() == before


def test_a_batch_may_name_an_adapter_row_by_row(base, disturb):
    for seed, name in enumerate(("left", "right")):
        base.attach(name)
        disturb(base, name, seed=seed)
    rows = IDS[:1].expand(3, -1)
    with torch.no_grad():
        mixed = base.model(input_ids=rows, adapter_names=["right", "__base__", "left"]).logits
    for row, name in zip(mixed, ("right", None, "left"), strict=True):
        torch.testing.assert_close(row, logits(base, name)[0])


def test_a_mixture_gives_each_row_what_its_adapter_alone_gives(base, disturb):
    for seed, name in enumerate(("left", "right")):
        base.attach(name)
        disturb(base, name, seed=seed)
    rows = torch.tensor([[5, 6, 7], [8, 9, 5], [7, 7, 6]])
    with torch.no_grad(), base.mixing(["left", "right"]) as mixture:
        mixture.choose(["right", None, "left"])
        mixed = base.model(input_ids=rows).logits
    for row, name in enumerate(["right", None, "left"]):
        with torch.no_grad(), base.using(name) as model:
            torch.testing.assert_close(mixed[row], model(input_ids=rows[row : row + 1]).logits[0])


def test_a_mixture_is_forgotten_when_one_of_its_adapters_goes_or_trains(base, disturb):
    for name in ("left", "right"):
        base.attach(name)
    with base.mixing(["left", "right"]) as kept, base.mixing(["left"]) as same:
        assert same is kept  # fewer need no new one
    with base.training("left"):
        assert base.mixture is None
    with base.mixing(["left", "right"]):
        base.drop("right")
        assert base.mixture is None and base.active is None
    keys = list(base.model.state_dict())
    assert not [key for key in keys if "mixed" in key or "right" in key]


def test_a_model_that_sees_the_rows_in_another_shape_is_not_mixed(base, disturb):
    for seed, name in enumerate(("left", "right")):
        base.attach(name)
        disturb(base, name, seed=seed)
    layer = base.layers[0].mlp.down_proj
    whole = layer.forward

    def flat(x, **named):
        return whole(x.flatten(0, 1), **named).unflatten(0, x.shape[:2])

    layer.forward = flat
    with base.mixing(["left", "right"]) as mixture:
        assert mixture is None and base.mixture is None


@pytest.mark.parametrize("name", ["__spare__", "__mixed__"])
def test_names_that_the_base_itself_uses_are_refused(base, name):
    with pytest.raises(AdapterError, match="cannot be called"):
        base.attach(name)


def test_an_adapter_of_other_layers_is_not_mixed(base):
    base.attach("left")
    base.attach("right", lora=LoraSettings(target_modules=".*q_proj"))
    with base.mixing(["left", "right"]) as mixture:
        assert mixture is None


def test_the_modules_of_a_retired_adapter_serve_the_next_one(base, disturb, tmp_path):
    for seed, name in enumerate(("one", "two")):
        base.attach(name)
        disturb(base, name, seed=seed)
        base.save(name, tmp_path / name)
        base.drop(name)
    rows = torch.tensor([[5, 6, 7]])
    base.attach_weights("first", tmp_path / "one")
    base.attach_weights("beside", tmp_path / "two")
    base.retire("first")
    assert base.adapters == {"beside"}
    modules = {id(module) for module in base.model.modules()}
    base.attach_weights("next", tmp_path / "two")
    assert {id(module) for module in base.model.modules()} == modules
    assert base.adapters == {"beside", "next"}
    with torch.no_grad(), base.using("beside") as model:
        expected = model(input_ids=rows).logits
    with torch.no_grad(), base.using("next") as model:
        assert torch.equal(model(input_ids=rows).logits, expected)
    assert base.digest("next") == base.digest("beside")
    base.retire("next")
    base.retire("beside")  # one is kept, the other one goes
    assert base.adapters == set()


def test_modules_that_were_prepared_serve_the_next_adapter(base, disturb, tmp_path):
    base.attach("one")
    disturb(base, "one")
    base.save("one", tmp_path / "one")
    base.attach_weights("first", tmp_path / "one")
    base.prepare_next("first")
    base.prepare_next("first")  # once is enough
    assert base.adapters == {"one", "first"}
    modules = {id(module) for module in base.model.modules()}
    base.attach_weights("next", tmp_path / "one")
    assert {id(module) for module in base.model.modules()} == modules
    assert base.digest("next") == base.digest("one")


def test_a_retired_adapter_of_another_shape_is_of_no_use(base, tmp_path):
    for name, rank in (("small", 4), ("large", 8)):
        base.attach(name, lora=LoraSettings(rank=rank))
        base.save(name, tmp_path / name)
        base.drop(name)
    base.attach_weights("one", tmp_path / "small")
    base.retire("one")
    base.attach_weights("two", tmp_path / "large")
    assert base.model.peft_config["two"].r == 8 and base.adapters == {"two"}
    base.save("two", tmp_path / "again")
    assert (tmp_path / "again" / "adapter_model.safetensors").exists()


def test_a_copy_stays_when_the_original_is_trained(base, disturb):
    base.attach("policy", trainable=True)
    disturb(base, "policy")
    base.copy_adapter("policy", "ref")
    before = logits(base, "policy")
    assert torch.equal(logits(base, "ref"), before)
    disturb(base, "policy", seed=1)
    assert torch.equal(logits(base, "ref"), before)


def test_a_copy_of_nothing_is_an_adapter_without_effect(base):
    base.copy_adapter(None, "ref")
    assert torch.equal(logits(base, "ref"), logits(base, None))


def test_a_dropped_adapter_is_unknown_and_the_base_is_whole(base, disturb):
    before = logits(base, None)
    for name in ("left", "right"):
        base.attach(name)
        disturb(base, name)
    base.drop("left")
    with (
        pytest.raises(AdapterError, match="'left' is not attached; attached: right"),
        base.using("left"),
    ):
        pass
    assert torch.equal(logits(base, None), before)
    base.drop("right")
    assert base.adapters == set()
    assert torch.equal(logits(base, None), before)


def test_a_name_is_never_reused(base):
    base.attach("left")
    with pytest.raises(AdapterError, match="attached already"):
        base.attach("left")
    with pytest.raises(AdapterError, match="attached already"):
        base.copy_adapter("left", "left")


def test_a_saved_adapter_comes_back_exactly(base, disturb, tmp_path):
    base.attach("policy")
    disturb(base, "policy")
    base.save("policy", tmp_path / "staging")
    publish_adapter(
        tmp_path / "staging", tmp_path / "policy-000001", kind="policy", base=base.fingerprint
    )
    base.attach("again", tmp_path / "policy-000001")
    assert torch.equal(logits(base, "again"), logits(base, "policy"))


def test_an_adapter_with_half_its_weights_is_refused(base, tmp_path):
    base.attach("policy")
    base.save("policy", tmp_path / "staging")
    file = tmp_path / "staging" / "adapter_model.safetensors"
    weights = load_file(file)
    save_file({k: v for k, v in weights.items() if "layers.0" in k}, file)
    publish_adapter(
        tmp_path / "staging", tmp_path / "policy-000001", kind="policy", base=base.fingerprint
    )
    with pytest.raises(AdapterError, match="lacks weights"):
        base.attach("policy-000001", tmp_path / "policy-000001")
    assert base.adapters == {"policy"}


def test_an_adapter_whose_weights_cannot_be_set_is_not_left_attached(
    base, disturb, tmp_path, monkeypatch
):
    base.attach("policy")
    disturb(base, "policy")
    base.save("policy", tmp_path)

    def fail(*_: object, **__: object) -> None:
        raise MemoryError("no room for the weights")

    with monkeypatch.context() as failing, pytest.raises(MemoryError):
        failing.setattr("rlhf_core.model.base_model.set_adapter_weights", fail)
        base.attach_weights("again", tmp_path)
    assert base.adapters == {"policy"}
    base.attach_weights("again", tmp_path)
    assert torch.equal(logits(base, "again"), logits(base, "policy"))


def test_a_response_does_not_depend_on_its_neighbours(base, said):
    prompts = [said(text) for text in ("hello", "what is the colour of the sky", "no")]
    together = base.respond(prompts, adapter=None, max_new_tokens=8, temperature=0)
    alone = [base.respond([p], adapter=None, max_new_tokens=8, temperature=0)[0] for p in prompts]
    assert together == alone


def test_sampling_repeats_with_its_seed_and_leaves_other_randomness_alone(base, said):
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    first = base.respond([said("hello")] * 4, adapter=None, max_new_tokens=8, seed=3)
    assert torch.equal(torch.rand(1), expected)
    assert first == base.respond([said("hello")] * 4, adapter=None, max_new_tokens=8, seed=3)
    assert first != base.respond([said("hello")] * 4, adapter=None, max_new_tokens=8, seed=4)


LEAKS = {"repetition_penalty": 5.0, "top_k": 1, "no_repeat_ngram_size": 1, "min_new_tokens": 6}


def test_a_models_own_settings_of_sampling_never_leak_in(load_tiny, base, said):
    prompts = [said(text) for text in ("hello", "no no no", "yes")] * 4
    found = load_tiny(TINY, do_sample=True, suppress_tokens=[40], **LEAKS)
    for temperature in (1.0, 0.0):
        expected = base.respond(prompts, adapter=None, temperature=temperature)
        assert found.respond(prompts, adapter=None, temperature=temperature) == expected


def test_a_reply_ends_at_any_end_that_tokenizer_template_or_model_declare(load_tiny, said):
    declared = list(range(100, 240))
    base = load_tiny(GEMMA, eos_token_id=declared)
    own = [base.tokenizer.convert_tokens_to_ids(name) for name in ("<eos>", "<end_of_turn>")]
    assert base.ends == {*declared, *own}
    found = base.respond([said("hello")] * 40, adapter=None)
    for reply in found:
        *inside, last = reply.token_ids
        assert base.ends.isdisjoint(inside)
        assert reply.finished is (last in base.ends)
        assert reply.text == base.chat.decode_reply(inside if reply.finished else reply.token_ids)
    assert {len(reply.token_ids) for reply in found} >= {1, 2, 3}
    assert any(reply.token_ids[-1] in declared for reply in found)


def test_padding_with_the_end_token_changes_nothing(load_tiny, said):
    base = load_tiny(SMOLLM)
    assert base.tokenizer.pad_token_id == base.tokenizer.eos_token_id
    prompts = [said(text) for text in ("hello", "what is the colour of the sky and grass", "no")]
    together = base.respond(prompts, adapter=None, max_new_tokens=8, temperature=0)
    alone = [base.respond([p], adapter=None, max_new_tokens=8, temperature=0)[0] for p in prompts]
    assert together == alone
    ids = [reply.token_ids for reply in together]
    for prompt, row, found in zip(
        prompts, ids, base.logprobs(prompts, ids, adapter=None), strict=True
    ):
        torch.testing.assert_close(found, base.logprobs([prompt], [row], adapter=None)[0])


def test_logprobs_are_those_of_the_whole_conversation_alone(base, said):
    prompts = [said("hello"), said("what is the colour of grass")]
    replies = [[40, 41, 1], [60, 61, 62, 63]]
    found = base.logprobs(prompts, replies, adapter=None)
    for prompt, reply, row in zip(prompts, replies, found, strict=True):
        alone = base.logprobs([prompt], [reply], adapter=None)[0]
        assert row.shape == (len(reply),)
        torch.testing.assert_close(row, alone)
    assert all((row < 0).all() for row in found)


def test_a_fingerprint_tells_bases_apart_and_ignores_quantization(model_path, base):
    quantized = load_base(str(model_path), quantization="nf4", device="cpu")
    assert quantized.fingerprint == base.fingerprint
    base.model.get_input_embeddings().weight.data[0, 0] += 1
    assert Base(base.model, base.tokenizer).fingerprint != quantized.fingerprint
