"""Profiles: the settings that fit a model and a machine, wherever nobody chose a value.

`profile_for` derives them from sizes alone: the same model on the same kind of machine always gets
the same values. `fill` puts them under what an operator has set. The starter's profile is empty,
since the defaults in `config.py` are the starter's.

Sources of the values:

- Learning rates of SFT and the reward model fall with the number of parameters to the power 0.4,
  through two measured points: the starter's (2.1M parameters) and SmolLM2-135M's (reward 4e-4 on
  the upper half of the layers).
- PPO's falls as the width grows, as Adam's for a layer's weights does in Yang et al. 2022
  (arXiv:2203.03466, table 3), from the starter's: 2.3e-4 for SmolLM2, 3.3e-5 for an 8B. A model of
  30M parameters, as wide as the starter, needs the starter's rate; SmolLM2 at 4e-4 gets shorter
  replies sooner, but fewer that meet both tastes (docs/results.md, "PPO's learning rate").
- Temperature: on a GPU 0.8, within what Llama 2-Chat sampled at (arXiv:2307.09288, section 3.2.3).
  On a CPU 0.6: at 0.8 the small models that it serves often miss the question.
- One pass over the votes: Ouyang et al. 2022, arXiv:2203.02155, appendix C.2; Llama 2, section
  3.2.2. One inner PPO epoch: arXiv:2203.02155, appendix C.4. On a CPU four
  minibatches an iteration (eight there): with two, score and KL rose half as fast, in one run each
  (docs/results.md, "A real model").
- The reward model's 12 steps, head rate of 4e-3 and head that begins at 0: one set of 42 votes on
  SmolLM2 (docs/results.md, "Few votes on a real model"). PPO's 16 iterations: what an hour allows.
- Lambda 1: the first token of a long reply answers for all of it, and its last one too
  (docs/decisions/0014-*.md).
- KL weight 0.05: Huang et al. 2024, arXiv:2403.17031, table 7.
- Quantization on a CPU: measured, docs/results.md.
- Rank 16 for every model: in reinforcement learning small ranks learn as much as full fine-tuning,
  and the best rate does not depend on the rank (Schulman et al. 2025, "LoRA Without Regret").
- Our choice, not measured: the GPU's 40 iterations of 128 replies and its rows at once, SFT's two
  passes and 20 steps, `FLOAT_SHARE`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, get_args

from pydantic import BaseModel

from rlhf_core.errors import InvalidInputError
from rlhf_core.model.facts import MachineFacts, ModelFacts

ProfileName = Literal["auto", "starter", "cpu", "gpu"]
Settings = TypeVar("Settings", bound=BaseModel)

STARTER_PARAMETERS, STARTER_WIDTH = 2.1e6, 192
RATE_EXPONENT = 0.4
# The width of SmolLM2, on which the heads' rates were measured. One step of Adam moves a value or
# score by as much as the rate times the width, so wider models get a lower rate. Narrower models
# get a higher one for the score: from 0 their head would learn too little in 12 steps.
HEAD_WIDTH = 576
GATE_PROMPTS = 80  # on a CPU, 160 replies take as long as a few iterations of PPO
SMALL = 5_000_000  # parameters; below this, one thread is faster than two
FLOAT_SHARE = 0.25  # of a CPU's memory: a base that takes more in fp32 is packed to nf4; the
# server and the cycle each hold one


@dataclass(frozen=True, slots=True)
class Profile:
    """Values for one model on one machine.

    Attributes:
        name: Which profile it is.
        quantization: Of the base's linear layers.
        threads: CPU threads of serving and of training.
        rows: Replies decoded together when serving.
        reply: Values of `ReplySettings`.
        cycle: Values of `CycleSettings`, nested.
    """

    name: Literal["starter", "cpu", "gpu"]
    quantization: Literal["nf4", "int8", "none"] = "nf4"
    threads: int = 1
    rows: int = 32
    reply: Mapping[str, Any] = field(default_factory=dict)
    cycle: Mapping[str, Any] = field(default_factory=dict)


def profile_for(name: ProfileName, model: ModelFacts, machine: MachineFacts) -> Profile:
    """The profile of a name; `auto` is `gpu` where there is one, and else `cpu`.

    Raises:
        InvalidInputError: The name is unknown, or the profile needs a GPU and there is none.
    """
    if name not in get_args(ProfileName):
        raise InvalidInputError(
            f"profile {name!r} is unknown; use {', '.join(get_args(ProfileName))}"
        )
    if name == "gpu" and machine.device != "cuda":
        raise InvalidInputError("profile 'gpu' needs a CUDA device and there is none; use 'cpu'")
    if name == "starter":
        return Profile("starter")
    on_gpu = machine.device == "cuda" and name != "cpu"
    return _gpu(model) if on_gpu else _cpu(model, machine)


def fill(settings: Settings, values: Mapping[str, Any]) -> Settings:
    """The settings with a profile's values wherever nobody set one; nested settings likewise."""
    filled: dict[str, Any] = {}
    for name in type(settings).model_fields:
        own = getattr(settings, name)
        if isinstance(own, BaseModel):
            filled[name] = fill(own, values.get(name, {}))
        elif name in settings.model_fields_set or name not in values:
            filled[name] = own
        else:
            filled[name] = values[name]
    return type(settings).model_validate(filled)


def learning_rate(starter: float, parameters: int) -> float:
    """The starter's learning rate, carried over to a model of another size; two digits."""
    return float(f"{starter * (STARTER_PARAMETERS / parameters) ** RATE_EXPONENT:.1e}")


def policy_learning_rate(width: int) -> float:
    """PPO's learning rate for a model with so many numbers in a hidden state; two digits."""
    return float(f"{7e-4 * min(1.0, STARTER_WIDTH / width):.1e}")


def _cpu(model: ModelFacts, machine: MachineFacts) -> Profile:
    """A laptop: a cycle of less than an hour for 100M to 200M parameters on two cores."""
    weights = 4 * model.parameters
    common = _common(model)
    return Profile(
        "cpu",
        quantization="none" if weights <= FLOAT_SHARE * machine.memory else "nf4",
        threads=1 if model.parameters < SMALL else machine.cores,
        rows=16,
        reply=_reply(model, prompt=256, tokens=128, temperature=0.6),
        cycle={
            "sft": common["sft"] | {"micro_batch_size": 4, "scored_prompts": 24},
            "reward": common["reward"] | {"members": 2, "micro_batch_size": 4},
            "policy": common["policy"]
            | {
                "iterations": 16,
                "batch_size": 32,
                "minibatch_size": 8,
                "micro_batch_size": 4,
                "warmup_iterations": 1,
            },
            "gate": {"prompts": GATE_PROMPTS},
            "data": {"most_gate_prompts": GATE_PROMPTS},
        },
    )


def _gpu(model: ModelFacts) -> Profile:
    """One GPU: longer replies and larger batches, on an nf4 base."""
    large = model.parameters > 1_000_000_000
    rows = {"micro_batch_size": 4 if large else 16, "gradient_checkpointing": large}
    common = _common(model)
    return Profile(
        "gpu",
        quantization="nf4",
        threads=1,
        rows=64,
        reply=_reply(model, prompt=1024, tokens=256, temperature=0.8),
        cycle={
            "sft": common["sft"] | rows,
            "reward": common["reward"] | rows,
            "policy": common["policy"]
            | {
                "iterations": 40,
                "batch_size": 128,
                "minibatch_size": 64,
                "micro_batch_size": 8 if large else 32,
                "gradient_checkpointing": large,
                "warmup_iterations": 2,
            },
        },
    )


def _reply(model: ModelFacts, *, prompt: int, tokens: int, temperature: float) -> dict[str, Any]:
    """The contract, within half and a quarter of the model's context."""
    context = model.context or 2048
    return {
        "prompt_tokens": min(prompt, context // 2),
        "tokens": min(tokens, context // 4),
        "temperature": temperature,
        "top_p": 0.95,
    }


def _common(model: ModelFacts) -> dict[str, dict[str, Any]]:
    """What any instruct model trains with, by stage."""
    return {
        "sft": {
            "learning_rate": learning_rate(1e-3, model.parameters),
            "epochs": 2,
            "min_steps": 20,
        },
        "reward": {
            "learning_rate": learning_rate(2e-3, model.parameters),
            "head_learning_rate": 4e-3 * HEAD_WIDTH / model.width,
            "head_scale": 0.0,
            "epochs": 1,
            "min_steps": 12,
            "corrupted_share": 0.0,
        },
        "policy": {
            "learning_rate": policy_learning_rate(model.width),
            "value_learning_rate": 1e-3 * min(1.0, HEAD_WIDTH / model.width),
            "epochs": 1,
            "kl_coef": 0.05,
            "lam": 1.0,
        },
    }
