"""Scores for whole responses: an ensemble of adapters, each with a score head, on the shared base.

A member is a LoRA adapter and a linear head that reads the hidden state at the end token.
Members have different scales, so each is normalised: standard deviation 1 on the responses
that were compared, and mean 0 on demonstrations or, without enough of them, on the same responses.
The ensemble's score is ``mean - spread_penalty * standard deviation`` over the members, because
where they disagree the score is uncertain, and PPO would find and use its errors. Training is in
``train_reward.py``.

Every response gets an end token before it is scored, because only there the head was
trained. PPO itself punishes a response that does not end.

Shapes: B responses, P + T tokens of the longest prompt and response, d numbers in a hidden state.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers.modeling_outputs import SequenceClassifierOutput

from rlhf_core.errors import AdapterError, InvalidInputError
from rlhf_core.model.adapters import verify_adapter
from rlhf_core.model.base_model import Base
from rlhf_core.model.token_batches import token_batches
from rlhf_core.records import Prompt

# What scores responses: a reward model's method, a rule, a service; any function of this shape.
Score = Callable[[Sequence[Prompt], Sequence[str]], Tensor | Sequence[float]]  # (B,)

HEADS, SETTINGS = "heads.safetensors", "reward.json"


def scores_of(score: Score, prompts: Sequence[Prompt], responses: Sequence[str]) -> Tensor:
    """The scores of responses, whatever kind of numbers the function gives; (B,) in float32.

    Raises:
        InvalidInputError: It does not give one number for each response.
    """
    found: Any = score(prompts, responses)
    try:
        scores = torch.as_tensor(found, dtype=torch.float32).cpu()
    except (TypeError, ValueError, RuntimeError) as exc:
        raise InvalidInputError(
            f"the score function gave {type(found).__name__}; use one number for each response"
        ) from exc
    if scores.shape != (len(responses),):
        raise InvalidInputError(
            f"the score function gave shape {tuple(scores.shape)} for {len(responses)} responses; "
            "use one number for each"
        )
    return scores


class ScoreModel(nn.Module):
    """One member: the shared base with ``adapter`` active, and a score head.

    TRL trains sequence classifiers with one label, so it has the interface of one.
    """

    def __init__(self, base: Base, adapter: str) -> None:
        super().__init__()
        self.adapter = adapter
        self.network = base.model
        self.config = type(base.model.config).from_dict(base.model.config.to_dict())
        self.config.num_labels = 1
        width = self.config.hidden_size
        self.head = nn.Linear(width, 1).to(base.device)
        nn.init.normal_(self.head.weight, std=(width + 1) ** -0.5)  # arXiv:1909.08593
        nn.init.zeros_(self.head.bias)
        self.mean, self.sd = 0.0, 1.0  # of the raw scores on the responses that normalise it

    def add_model_tags(self, tags: object) -> None:
        """TRL tags models for their model cards; this one has no card."""

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, **_: Any
    ) -> SequenceClassifierOutput:
        """Raw scores, read at the last real token of rows that are padded on the right; (B, 1)."""
        decoder = self.network.get_decoder()
        hidden = decoder(
            input_ids=input_ids, attention_mask=attention_mask, use_cache=False
        ).last_hidden_state  # (B, P + T, d)
        last = attention_mask.sum(1) - 1  # (B,)
        ends = hidden[torch.arange(len(hidden), device=hidden.device), last]  # (B, d)
        return SequenceClassifierOutput(logits=self.head(ends.float()))


class RewardModel:
    """The ensemble; ``score`` is all that PPO and the evaluation need."""

    def __init__(
        self,
        base: Base,
        members: Sequence[ScoreModel],
        *,
        spread_penalty: float,
        temperature: float = 1.0,
    ) -> None:
        self.base = base
        self.temperature = temperature  # a difference of scores, divided by this, is log-odds
        self.members = list(members)
        self.spread_penalty = spread_penalty

    def score(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Tensor:
        """Score of each response, in standard deviations of the compared responses; (B,)."""
        scores = self.member_scores(prompts, responses)  # (members, B)
        if len(self.members) == 1:
            return scores[0]
        return scores.mean(0) - self.spread_penalty * scores.std(0)

    def preference(
        self, prompts: Sequence[Prompt], first: Sequence[str], second: Sequence[str]
    ) -> Tensor:
        """Probability that a rater who prefers one of two responses prefers the first; (B,)."""
        scores = self.member_scores([*prompts, *prompts], [*first, *second]).mean(0)
        n = len(first)
        return ((scores[:n] - scores[n:]) / self.temperature).sigmoid()

    @torch.no_grad()
    def member_scores(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Tensor:
        """Normalised score of each response by each member; (members, B)."""
        rows = [
            tuple(self.base.chat.encode_pair(p, r)[0])
            for p, r in zip(prompts, responses, strict=True)
        ]
        unique = list(dict.fromkeys(rows))  # a small policy often gives the same response
        found = torch.empty(len(self.members), len(unique))
        for part in token_batches([len(row) for row in unique]):
            ids, mask = self.base.pad([unique[i] for i in part], side="right")
            for k, member in enumerate(self.members):
                with self.base.using(member.adapter):
                    raw = member(ids, mask).logits[:, 0].cpu()
                found[k, part] = (raw - member.mean) / member.sd
        place = {row: i for i, row in enumerate(unique)}
        return found[:, [place[row] for row in rows]]

    def normalise(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Tensor:
        """Give every member mean 0 and standard deviation 1 on these responses.

        Returns:
            Their scores as they are from now on; (members, B).
        """
        scores = self.member_scores(prompts, responses)
        for k, member in enumerate(self.members):
            mean, sd = scores[k].mean().item(), max(scores[k].std(correction=0).item(), 1e-6)
            member.mean += member.sd * mean
            member.sd *= sd
            scores[k] = (scores[k] - mean) / sd
        return scores

    def centre(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> None:
        """Move the zero of the score to its mean on these responses.

        Source:
            Ouyang et al. 2022, arXiv:2203.02155, section 3.5: demonstrations score 0 on average.
        """
        offset = self.score(prompts, responses).mean().item()
        for member in self.members:
            member.mean += member.sd * offset

    def save(self, directory: Path) -> None:
        """Write adapters, heads and settings; publish the directory with ``publish_adapter``."""
        for k, member in enumerate(self.members):
            self.base.save(member.adapter, directory / f"m{k}")
        heads = {
            "weight": torch.cat([m.head.weight for m in self.members]),  # (members, d)
            "bias": torch.cat([m.head.bias for m in self.members]),  # (members,)
            "mean": torch.tensor([m.mean for m in self.members], dtype=torch.float64),
            "sd": torch.tensor([m.sd for m in self.members], dtype=torch.float64),
        }
        save_file({k: v.detach().cpu().contiguous() for k, v in heads.items()}, directory / HEADS)
        settings = {"spread_penalty": self.spread_penalty, "temperature": self.temperature}
        (directory / SETTINGS).write_text(json.dumps(settings))

    @classmethod
    def load(cls, base: Base, directory: Path) -> "RewardModel":
        """Attach a published reward model to ``base``.

        Raises:
            AdapterError: The directory does not verify, or was made for another base.
        """
        verify_adapter(directory, base=base.fingerprint)
        try:
            heads = load_file(directory / HEADS)
            settings = json.loads((directory / SETTINGS).read_text())
            settings.pop("max_tokens", None)  # in 0.1.0; now the contract of replies says it
            members = []
            for k, (weight, bias) in enumerate(zip(heads["weight"], heads["bias"], strict=True)):
                name = f"{directory.name}-m{k}"
                base.attach_weights(name, directory / f"m{k}")
                member = ScoreModel(base, name)
                member.head.weight.data.copy_(weight[None])
                member.head.bias.data.copy_(bias)
                member.mean, member.sd = heads["mean"][k].item(), heads["sd"][k].item()
                members.append(member)
            return cls(base, members, **settings)
        except (OSError, KeyError, TypeError, ValueError, RuntimeError) as exc:
            raise AdapterError(f"reward model {directory} cannot be used: {exc}") from exc

    def drop(self) -> None:
        """Take the members off the base."""
        for member in self.members:
            self.base.drop(member.adapter)
        self.members = []
