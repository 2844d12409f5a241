"""TRL 1.12's trainer as a worker: `python -m benchmarks.trl112.baseline JOB`; see `turns.py`.

As good as it gets within its design: the policy is a LoRA adapter whose reference is the base with
the adapter off; each minibatch is one forward pass and one optimizer step (its gradient
accumulation would skip steps); no checkpointing, no logging, no evaluation. Its reward and value
models are models of their own, and the value model starts from the reward model, as its examples
do. Runs in the baseline's environment and imports none of our packages.
"""

import json
import sys
from pathlib import Path
from typing import Any

import bitsandbytes  # noqa: F401 - loading it late is no training
import torch
from datasets import Dataset
from peft import LoraConfig
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BitsAndBytesConfig,
    PrinterCallback,
    TrainerCallback,
    get_constant_schedule_with_warmup,
)
from transformers.models.llama import modeling_llama  # noqa: F401 - loading it late is no training
from trl.experimental.ppo import PPOConfig, PPOTrainer

from benchmarks.trl112.turns import Turns


class TakeTurns(TrainerCallback):
    """Ends the turn after every iteration, and keeps the adapter where that is asked for."""

    def __init__(self, job: dict[str, Any], turns: Turns) -> None:
        self._job, self._turns = job, turns
        self.trainer: Any = None
        self.metrics: dict[str, float] = {}

    def on_log(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Called before the end of each iteration, with its metrics."""
        self.metrics = more["logs"]

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Called once for each iteration."""
        if self._job["save"] and state.global_step % self._job["save_every"] == 0:
            policy = self.trainer.accelerator.unwrap_model(self.trainer.model).policy
            policy.save_pretrained(Path(self._job["save"]) / f"{state.global_step:03}")
        self._turns.take(**self.metrics)


def make_trainer(job: dict[str, Any], callback: TrainerCallback | None = None) -> PPOTrainer:
    """A trainer with all of its models, set like ours."""
    torch.manual_seed(job["seed"])
    tokenizer = AutoTokenizer.from_pretrained(job["model"], padding_side="left")
    policy = _load(AutoModelForCausalLM, job, job["model"], job["quantization"])
    if job["fixed_length"]:
        policy.generation_config.min_new_tokens = job["reply"]["tokens"]
    # the value model is trained in full, so it cannot be quantized
    reward, value = _classifier(job, job["quantization"]), _classifier(job, "none")
    prompts = Dataset.from_list([{"input_ids": ids} for ids in job["prompt_ids"]])
    trainer = PPOTrainer(
        args=_config(job),
        processing_class=tokenizer,
        model=policy,
        ref_model=None,
        reward_model=reward.requires_grad_(False),
        value_model=value,
        train_dataset=prompts,
        eval_dataset=prompts.select(range(1)),
        peft_config=LoraConfig(
            task_type="CAUSAL_LM",
            r=job["lora"]["rank"],
            lora_alpha=job["lora"]["alpha"],
            lora_dropout=0.0,
            target_modules=job["lora"]["target_modules"],
        ),
        callbacks=[callback] if callback else None,
    )
    trainer.remove_callback(PrinterCallback)
    _set_rates(trainer, job)
    return trainer


def _config(job: dict[str, Any]) -> PPOConfig:
    ours = job["policy"]
    return PPOConfig(
        output_dir=job["scratch"],
        seed=job["seed"],
        per_device_train_batch_size=ours["batch_size"],
        gradient_accumulation_steps=1,
        num_mini_batches=ours["batch_size"] // ours["minibatch_size"],
        num_ppo_epochs=ours["epochs"],
        total_episodes=ours["iterations"] * ours["batch_size"],
        local_rollout_forward_batch_size=ours["batch_size"],
        response_length=job["reply"]["tokens"],
        stop_token="eos",
        temperature=job["reply"]["temperature"],
        missing_eos_penalty=ours["missing_eos_penalty"] or None,
        kl_coef=ours["kl_coef"],
        cliprange=ours["cliprange"],
        cliprange_value=ours["value_cliprange"],
        vf_coef=ours["vf_coef"],
        gamma=ours["gamma"],
        lam=ours["lam"],
        learning_rate=ours["learning_rate"],
        adam_epsilon=1e-5,
        weight_decay=0.0,
        use_cpu=job["device"] == "cpu",
        bf16=job["device"] == "cuda",
        gradient_checkpointing=False,
        report_to=[],
        save_strategy="no",
        eval_strategy="no",
        num_sample_generations=0,
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )


def _set_rates(trainer: PPOTrainer, job: dict[str, Any]) -> None:
    """A learning rate of its own for the value model, and our warm-up; else all as TRL made it."""
    model, rates = trainer.accelerator.unwrap_model(trainer.model), job["policy"]
    groups = [
        {"params": _trainable(model.policy), "lr": rates["learning_rate"]},
        {"params": _trainable(model.value_model), "lr": job["value_learning_rate"]},
    ]
    optimizer = torch.optim.AdamW(groups, eps=1e-5, weight_decay=0.0)
    trainer.optimizer = trainer.accelerator.prepare(optimizer)
    trainer.lr_scheduler = get_constant_schedule_with_warmup(optimizer, rates["warmup_iterations"])


def _trainable(model: nn.Module) -> list[nn.Parameter]:
    return [p for p in model.parameters() if p.requires_grad]


def _load(kind: Any, job: dict[str, Any], path: str, quantization: str, **more: Any) -> Any:
    dtype = torch.bfloat16 if job["device"] == "cuda" else torch.float32
    four_bit = BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
    )
    model = kind.from_pretrained(
        path,
        dtype=dtype,
        device_map={"": job["device"]},
        quantization_config=four_bit if quantization == "nf4" else None,
        **more,
    )
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False  # else its gradients are silently wrong
    return model


def _classifier(job: dict[str, Any], quantization: str) -> Any:
    """A model with TRL's `score` head; a trained reward model brings a bias, too."""
    reward = job["reward"] or {"path": job["model"], "bias": 0.0}
    model = _load(
        AutoModelForSequenceClassification, job, reward["path"], quantization, num_labels=1
    )
    score = nn.Linear(model.config.hidden_size, 1).to(model.score.weight)
    score.weight.data.copy_(model.score.weight.data)
    score.bias.data.fill_(reward["bias"])
    model.score = score
    return model


def main(job: dict[str, Any]) -> None:
    """Train as the job says, an iteration a turn."""
    torch.set_num_threads(1)
    turns = Turns()
    callback = TakeTurns(job, turns)
    callback.trainer = make_trainer(job, callback)
    turns.take()
    callback.trainer.train()


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
