"""Scores for whole responses: an ensemble of adapters, each with a score head, on the shared base.

A member is a LoRA adapter and a linear head that reads the hidden state at the end token. Members
have different scales, so each is normalised: mean 0 and standard deviation 1 on samples of the
policy that PPO starts from (``train_reward.py`` trains and normalises).
The ensemble's score is ``mean - spread_penalty * standard deviation`` over the members, because
where they disagree the score is uncertain, and PPO would find and use its errors.

Layers that the members have in common run once for all of them (``trunk.py``), and a response that
was scored before is not scored again.

Every response gets an end token before it is scored, because only there the head was
trained. PPO itself punishes a response that does not end.

Shapes: B responses, P + T tokens of the longest prompt and response, d numbers in a hidden state.
"""

import json
from array import array
from collections.abc import Callable, Sequence, Set
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers.modeling_outputs import SequenceClassifierOutput

from rlhf_core.errors import AdapterError, InvalidInputError
from rlhf_core.model.adapters import verify_adapter
from rlhf_core.model.base_model import Base
from rlhf_core.model.split import upper_part, whole_pass
from rlhf_core.model.token_batches import pass_tokens, token_batches
from rlhf_core.records import Prompt
from rlhf_core.reward.reward_data import prompt_key
from rlhf_core.reward.trunk import Tokens, Trunk, common_layers

# What scores responses: a reward model's method, a rule, a service; any function of this shape.
Score = Callable[[Sequence[Prompt], Sequence[str]], Tensor | Sequence[float]]  # (B,)


@runtime_checkable
class Ensemble(Protocol):
    """Several reward models in one: `RewardModel`, or `LinearHeads` (`heads.py`)."""

    @property
    def learnt_from(self) -> Sequence[Set[str]] | None:
        """By member, the keys of the prompts that it learnt from; None if that is not known."""
        ...

    def score(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Tensor:
        """Score of each response, (B,)."""
        ...

    def member_scores(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Tensor:
        """Score of each response by each member, (members, B)."""
        ...

    def unseen(self, prompts: Sequence[Prompt]) -> Tensor:
        """Whether each member did not learn from each prompt; (members, B)."""
        ...


HEADS, SETTINGS = "heads.safetensors", "reward.json"
# Responses whose scores are remembered: all that a cycle compares, within its caps, and those that
# PPO samples. A kilobyte or less each.
MOST_KNOWN = 2**15


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
        self.base = base
        self.network = base.model  # its trainable weights are this module's
        self.config = type(base.model.config).from_dict(base.model.config.to_dict())
        self.config.num_labels = 1
        width = self.config.get_text_config().hidden_size
        self.head = nn.Linear(width, 1).to(base.device)
        nn.init.normal_(self.head.weight, std=(width + 1) ** -0.5)  # arXiv:1909.08593
        nn.init.zeros_(self.head.bias)
        self.mean, self.sd = 0.0, 1.0  # of the raw scores on the responses that normalise it

    def add_model_tags(self, tags: object) -> None:
        """TRL tags models for their model cards; this one has no card."""

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        states: Tensor | None = None,
        depth: int = 0,
        **_: Any,
    ) -> SequenceClassifierOutput:
        """Raw scores, read at the last real token of rows that are padded on the right; (B, 1).

        Args:
            input_ids: (B, P + T)
            attention_mask: (B, P + T)
            states: What the lowest layers made of the rows, if that is known. (B, P + T, d)
            depth: How many layers that was.
        """
        if states is None:
            hidden = whole_pass(self.base, input_ids, attention_mask)  # (B, P + T, d)
        else:
            hidden = upper_part(self.base, depth, states, input_ids, attention_mask)
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
        trunk: Trunk | None = None,
    ) -> None:
        """An ensemble.

        Args:
            base: The shared base.
            members: Attached members, whose weights do not change any more.
            spread_penalty: How much disagreement lowers the score.
            temperature: A difference of scores, divided by it, is log-odds.
            trunk: What the members have in common, if that is known; else it is found.
        """
        names = [member.adapter for member in members]
        shared = common_layers(base, names) if trunk is None and len(names) > 1 else 0
        self.trunk = trunk or Trunk(base, names[0], shared)
        self._known: dict[bytes, Tensor] = {}  # raw scores by all members, by a response's tokens
        self.base = base
        self.temperature = temperature
        self.members = list(members)
        self.spread_penalty = spread_penalty
        # By member: the keys of the prompts that it learnt from. A loaded model does not know them.
        self.learnt_from: Sequence[Set[str]] | None = None

    def score(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Tensor:
        """Score of each response, in standard deviations of what it is normalised on; (B,)."""
        return self._mean(self.member_scores(prompts, responses))

    def unseen_score(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Tensor:
        """Score of each response, by those members only that did not learn from its prompt; (B,).

        Members are trained on bootstrap samples, so most training votes can test them as held-out
        votes do. Where every member learnt from the prompt, the score is NaN (see `unseen`).

        Raises:
            ValueError: The model was loaded; what its members learnt from is not known.

        Source:
            Breiman 1996, "Out-of-bag estimation".
        """
        scores, unseen = self.member_scores(prompts, responses), self.unseen(prompts)
        columns = zip(scores.T, unseen.T, strict=True)
        return torch.stack([self._mean(own[mask][:, None])[0] for own, mask in columns])

    def unseen(self, prompts: Sequence[Prompt]) -> Tensor:
        """Whether each member did not learn from each prompt; (members, B).

        Raises:
            ValueError: The model was loaded; what its members learnt from is not known.
        """
        if self.learnt_from is None:
            raise ValueError("a loaded reward model does not know what its members learnt from")
        keys = [prompt_key(prompt) for prompt in prompts]
        return torch.tensor([[key not in own for key in keys] for own in self.learnt_from])

    def _mean(self, scores: Tensor) -> Tensor:
        """Mean over the members, less a penalty for their disagreement; (B,)."""
        if len(scores) < 2:  # one member never disagrees; the mean of none is NaN
            return scores.mean(0)
        return scores.mean(0) - self.spread_penalty * scores.std(0)

    def preference(
        self, prompts: Sequence[Prompt], first: Sequence[str], second: Sequence[str]
    ) -> Tensor:
        """Probability that a rater who prefers one of two responses prefers the first; (B,)."""
        scores = self.member_scores([*prompts, *prompts], [*first, *second]).mean(0)
        n = len(first)
        return ((scores[:n] - scores[n:]) / self.temperature).sigmoid()

    def member_scores(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Tensor:
        """Normalised score of each response by each member; (members, B)."""
        rows = [
            tuple(self.base.chat.encode_pair(p, r)[0])
            for p, r in zip(prompts, responses, strict=True)
        ]
        keys = [array("i", row).tobytes() for row in rows]
        new = {row: key for key, row in zip(keys, rows, strict=True) if key not in self._known}
        ordered = sorted(new)  # in another order processes would round differently
        lengths = [len(row) for row in ordered]
        for places in token_batches(lengths, tokens=pass_tokens(self.base.device)):
            part = [ordered[place] for place in places]
            self._known |= zip([new[row] for row in part], self._raw_scores(part).T, strict=True)
        raw = torch.stack([self._known[key] for key in keys], dim=1)  # (members, B)
        for key in list(self._known)[: max(0, len(self._known) - MOST_KNOWN)]:
            del self._known[key]  # the oldest
        mean, sd = (
            torch.tensor([getattr(member, name) for member in self.members])
            for name in ("mean", "sd")
        )
        return (raw - mean[:, None]) / sd[:, None]

    @torch.no_grad()
    def _raw_scores(self, rows: Sequence[Tokens]) -> Tensor:
        """Scores before normalisation; (members, rows)."""
        ids, mask = self.base.pad(rows, side="right")
        states, found = None, []
        if self.trunk.depth:
            states = self.trunk.states(rows).to(self.base.device)
        for member in self.members:
            with self.base.using(member.adapter):
                found.append(member(ids, mask, states, self.trunk.depth).logits[:, 0].cpu())
        return torch.stack(found)

    def normalise(
        self, prompts: Sequence[Prompt], responses: Sequence[str], *, least: float = 1e-6
    ) -> None:
        """Give every member mean 0 and standard deviation 1 on these responses.

        Args:
            prompts: What the responses answer.
            responses: The responses. (B,)
            least: Smallest standard deviation to divide by, in the score's present units.
        """
        scores = self.member_scores(prompts, responses)
        for member, own in zip(self.members, scores, strict=True):
            member.mean += member.sd * own.mean().item()
            member.sd *= max(own.std(correction=0).item(), least)

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
    def load(cls, base: Base, directory: Path, *, key: bytes | None = None) -> "RewardModel":
        """Attach a published reward model to ``base``; with ``key`` it must be signed.

        Raises:
            AdapterError: The directory does not verify, or was made for another base.
        """
        verify_adapter(directory, base=base.fingerprint, kind="reward", key=key)
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
        self.trunk.forget()
