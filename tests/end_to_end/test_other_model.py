"""The whole loop on another model than the starter, with nothing set by hand.

The model is the starter grown to 30M parameters: its blocks get many more units, whose output
weights are 0. So it begins as the starter speaks, in a second, and is a model of its own: it gets
the profile, lengths and learning rates of its size, in full precision. It knows what the starter
knows, so the starter's visitors ask it and the starter's exact judge measures it.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from chat_app.simulate import Plan, run_simulation
from rlhf_core.config import ReplySettings
from rlhf_core.model.loading import load_base
from rlhf_core.model.sources import STARTER_MODEL
from rlhf_core.worlds.starter.measure import compare
from tests.end_to_end.running import Chatter, command, service

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
UNITS = 12_800  # of each block's MLP; the starter has 512


def grow(folder: Path) -> None:
    """Write the starter with wider blocks that compute the same."""
    small = AutoModelForCausalLM.from_pretrained(STARTER_MODEL, dtype=torch.float32)
    wide = LlamaForCausalLM(
        LlamaConfig.from_dict(small.config.to_dict() | {"intermediate_size": UNITS})
    )
    state = wide.state_dict()
    for name, weight in small.state_dict().items():
        if "down_proj" in name:
            state[name].zero_()
        rows, *columns = (slice(size) for size in weight.shape)
        state[name][(rows, *columns)] = weight
    wide.load_state_dict(state)
    wide.save_pretrained(folder)
    AutoTokenizer.from_pretrained(STARTER_MODEL).save_pretrained(folder)


@pytest.fixture(scope="module")
def looped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, object]]:
    """240 choices, a cycle while somebody chats, and the plan from before it."""
    folder = tmp_path_factory.mktemp("grown")
    model, data = folder / "model", folder / "data"
    grow(model)
    options = ("--model", str(model))
    with service(data, options) as url:
        plan = Plan(url, visitors=20, events=240, seed=1, kinds=("choices",))
        simulated = run_simulation(plan, show=False)
        planned = command("plan", "--data", str(data), "--json", *options)
        chatter = Chatter(url)
        chatter.start()
        cycle = command("cycle", "--data", str(data), "--json", *options)
        chatter.enough.set()
        chatter.join()
    yield {
        "model": model,
        "data": data,
        "simulated": simulated,
        "planned": json.loads(planned.stdout),
        "cycle": cycle,
        "chatter": chatter,
    }


def test_a_model_of_another_size_goes_round_without_any_setting(looped):
    assert looped["simulated"].failed == 0
    assert looped["cycle"].stdout, looped["cycle"].stderr
    facts = json.loads(looped["cycle"].stdout)
    assert (facts["state"], facts["adapter"]) == ("promoted", "policy-000001"), facts["reasons"]
    assert looped["chatter"].failures == []


def test_what_was_planned_is_what_was_used(looped):
    planned, used = (
        looped["planned"],
        json.loads((looped["data"] / "cycles" / "000001" / "config.json").read_text()),
    )
    assert planned["fits"] and 25e6 < planned["model"]["parameters"] < 35e6
    assert planned["settings"]["profile"] == ["cpu", "profile"]
    assert planned["settings"]["quantization"][0] == used["quantization"] == "none"
    assert planned["settings"]["reply.tokens"][0] == used["reply"]["tokens"]
    assert planned["settings"]["cycle.policy.learning_rate"][0] == used["policy"]["learning_rate"]
    assert used["reward"]["learning_rate"] < 1e-3  # the starter's is 2e-3


def test_the_exact_judge_prefers_its_replies_to_requests_that_nobody_voted_on(looped):
    used = json.loads((looped["data"] / "cycles" / "000001" / "config.json").read_text())
    reply = ReplySettings(**used["reply"])
    base = load_base(str(looped["model"]), quantization="none", reply=reply)
    base.attach("candidate", looped["data"] / "adapters" / "policy-000001")
    found = compare(base, candidate="candidate", served=None, n=200, seed=1)
    assert found.low > 0.5
    assert found.candidate.truth > found.served.truth
