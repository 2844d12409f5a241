"""Settings of every stage, with their defaults, units and sources.

Frozen pydantic models: a resolved configuration is one JSON document beside each result. The
defaults fit the embedded starter model (about 2M parameters on a CPU); `training/profiles.py`
derives those of other models.

One option is checked where it is set. Whether options go together is checked where they are used,
by `require_fit`: until then a profile may fill in those that nobody set.
"""

import hashlib
import math
from itertools import takewhile
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from rlhf_core.errors import InvalidInputError
from rlhf_core.records import Prompt

# A policy that changes its style moves a little with every token, so limits grow with the length.
# The numbers are the starter's earlier limits (25 and 30) over its 48 tokens, rounded.
BUDGET_PER_TOKEN, GATE_KL_PER_TOKEN = 0.5, 0.6  # nats


class Stage(BaseModel):
    """Base of all settings: immutable, and an unknown name is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ReplySettings(Stage):
    """The contract of one reply: serving, SFT, rollouts, scores and the gate all keep it."""

    prompt_tokens: int = Field(
        256, ge=8, description="longest prompt; the oldest turns of a longer one are left out"
    )
    tokens: int = Field(
        64,
        ge=1,
        description="longest reply; of a longer one that people judged, training reads as much of "
        "its beginning",
    )
    temperature: float = Field(
        1.0, ge=0, le=2, description="of sampling; 0 = always the most likely token"
    )
    top_p: float = Field(
        1.0, gt=0, le=1, description="share of probability sampled when serving; 1 = all"
    )
    system_prompt: str | None = Field(
        None, description="begins every conversation that does not begin with its own"
    )

    @property
    def window(self) -> int:
        """Most tokens of a prompt and its reply, with the end token."""
        return self.prompt_tokens + self.tokens + 1

    def system_text(self, prompt: Prompt) -> str | None:
        """What begins a conversation: the system prompt, or None if it begins with its own.

        A system message that comes later may be cut with its turn, so it does not count.
        """
        first = takewhile(lambda message: message["role"] == "system", prompt)
        own = any(message["content"].strip() for message in first)
        return None if own else self.system_prompt

    def system_name(self, prompt: Prompt) -> str | None:
        """The name of that system prompt: 12 digits of its SHA-256; None if there is none."""
        text = self.system_text(prompt)
        return hashlib.sha256(text.encode()).hexdigest()[:12] if text else None

    @property
    def rollout_temperature(self) -> float:
        """The temperature of rollouts: a policy that never varies would have nothing to learn."""
        return self.temperature or 1.0


class LoraSettings(Stage):
    """Size of an adapter."""

    rank: int = Field(16, ge=1, description="LoRA rank")
    alpha: int = Field(32, ge=1, description="LoRA scale; the update is multiplied by alpha / rank")
    target_modules: str = Field("all-linear", description="modules that get an adapter")


class TrainingStage(Stage):
    """Settings that all three training stages have; none of them changes results."""

    micro_batch_size: int = Field(
        0,
        ge=0,
        description="rows that one process trains on at once; lower it if memory runs out; "
        "0 = all rows of an optimizer step",
    )
    halve_micro_batch: bool = Field(
        True,
        description="if training runs out of memory, halve the rows at once and try again, instead "
        "of failing; one process only",
    )
    gradient_checkpointing: bool = Field(
        False,
        description="keep fewer states of a pass in memory, and compute them again for its "
        "gradients: about a third slower",
    )
    checkpoint_seconds: float = Field(
        30.0, ge=0, description="shortest time between two checkpoints; 0 = one after every step"
    )

    def decisive(self) -> dict[str, Any]:
        """The settings that results depend on."""
        return self.model_dump(exclude=set(TrainingStage.model_fields))


class SFTSettings(TrainingStage):
    """Supervised fine-tuning on demonstrations."""

    enabled: bool = Field(True, description="false skips SFT: only votes train")
    min_demonstrations: int = Field(16, ge=1, description="with fewer, SFT is skipped")
    epochs: int = Field(4, ge=1, description="passes over the demonstrations")
    min_steps: int = Field(
        60, ge=1, description="fewest optimizer steps; few demonstrations get more passes"
    )
    learning_rate: float = Field(1e-3, gt=0)
    batch_size: int = Field(16, ge=1, description="demonstrations per optimizer step")
    scored_prompts: int = Field(
        64, ge=1, description="prompts answered after a pass; their scores choose the best pass"
    )


class RewardSettings(TrainingStage):
    """The reward model: an ensemble of adapters with a score head."""

    members: int = Field(3, ge=1, le=5, description="ensemble members")
    epochs: int = Field(2, ge=1, description="passes over the opinions")
    min_steps: int = Field(
        60, ge=1, description="fewest optimizer steps of a member; few comparisons get more passes"
    )
    learning_rate: float = Field(2e-3, gt=0, description="of the adapters")
    head_learning_rate: float | None = Field(
        None, gt=0, description="of the score head; without it, that of the adapters"
    )
    head_scale: float = Field(
        1.0,
        ge=0,
        description="size of a new score head's random weights; 1 as in arXiv:1909.08593, 0 where "
        "few steps could not unlearn them",
    )
    batch_size: int = Field(
        16, ge=1, description="opinions per optimizer step: comparisons, rankings, thumbs"
    )
    tie_weight: float = Field(1.0, ge=0, description="weight of a tie; 0 = dropped")
    strength_margin: float = Field(
        1.0,
        ge=0,
        description="margin of scores that the strongest preferences ask for, in log-odds",
    )
    unpaired_share: float = Field(
        0.3, ge=0, lt=1, description="largest share of the weight for thumbs without an opposite"
    )
    offset_sd: float = Field(
        1.0, gt=0, description="standard deviation of raters' thresholds for a thumb, in log-odds"
    )
    label_smoothing: float = Field(0.05, ge=0, lt=0.5, description="assumed share of wrong votes")
    corrupted_share: float = Field(
        0.25, ge=0, le=1, description="corrupted copies of preferred responses added as rejected"
    )
    spread_penalty: float = Field(
        0.5, ge=0, description="score = mean - penalty * standard deviation over the members"
    )
    layers: float = Field(
        0.5,
        gt=0,
        le=1,
        description="share of the layers that train, from the top; what lies below is the same for "
        "all members, and runs once for each reply",
    )
    start: Literal["sft", "last", "base"] = Field(
        "sft",
        description="what members begin as: PPO's reference, as in InstructGPT; the last cycle's "
        "reward model, if there is one, else PPO's reference; or the bare base",
    )
    reference_samples: int = Field(
        128,
        ge=2,
        description="replies of PPO's reference on which the score gets mean 0 and standard "
        "deviation 1",
    )
    kept_bytes: int = Field(
        1 << 30,
        ge=0,
        description="most memory for what the layers that do not train made of each reply; what "
        "does not fit is computed again",
    )


class PolicySettings(TrainingStage):
    """PPO: rollouts, the KL-shaped reward, the critic and the clipped updates."""

    start: Literal["served", "anchor"] = Field(
        "served",
        description="what the policy begins as, and PPO's reference with it: the served policy, so "
        "that each cycle goes on from the last; or the anchor, so that each learns anew from all "
        "votes",
    )
    iterations: int = Field(40, ge=1, description="rollout + update rounds")
    batch_size: int = Field(64, ge=2, description="episodes per iteration")
    minibatch_size: int = Field(64, ge=1, description="episodes per optimizer step")
    epochs: int = Field(2, ge=1, description="passes over one rollout")
    learning_rate: float = Field(7e-4, gt=0, description="policy adapter")
    value_learning_rate: float = Field(1e-3, gt=0, description="value head")
    warmup_iterations: int = Field(5, ge=0)
    kl_coef: float = Field(0.1, ge=0, description="per-token KL penalty (k1) in the reward")
    kl_budget: float | None = Field(
        None,
        gt=0,
        description="the stage stops when the mean KL to the anchor is larger, in nats per "
        "response; none = 0.5 for each of reply.tokens. It adds up over cycles; gate.max_kl "
        "limits that of replies as they are served, a little more with top_p. The anchor is the "
        "base, until `adapters anchor` names another",
    )
    gamma: float = Field(1.0, ge=0, le=1, description="discount of a reward per token")
    lam: float = Field(
        0.95,
        ge=0,
        le=1,
        description="GAE lambda; below 1, the score reaches a token t places before the end "
        "weakened by lambda to the power t",
    )
    cliprange: float = Field(0.2, gt=0)
    value_cliprange: float = Field(0.2, gt=0)
    vf_coef: float = Field(0.1, ge=0)
    replay_share: float = Field(
        0.25, ge=0, le=1, description="smallest share of rollout prompts from earlier cycles"
    )
    most_replay_share: float = Field(0.5, ge=0, le=1, description="largest share of them")
    most_unvoted_share: float = Field(
        0.5,
        ge=0,
        le=1,
        description="largest share of prompts that nobody voted on, among the rollout prompts that "
        "are not from earlier cycles",
    )
    ptx_coef: float = Field(
        0.0,
        ge=0,
        description="weight of the mean-token loss on pretraining text and demonstrations; 0 = off",
    )
    generation: Literal["local", "vllm"] = Field(
        "local",
        description="who decodes all replies of a cycle, those of the gate and of probes, too: "
        "`local`: the cycle itself; `vllm`: the servers in `engine.vllm_urls`, whoever answers "
        "people. Scores and log-probabilities are always the cycle's own",
    )
    missing_eos_penalty: float = Field(
        1.0, ge=0, description="subtracted from the score of an unfinished response"
    )
    estimator: Literal["gae", "rloo"] = Field(
        "gae",
        description="of advantages: gae has a critic, rloo compares the replies to one prompt",
    )
    group: int | None = Field(
        None, ge=2, description="replies to one prompt in a rollout; none = 2, and 4 with rloo"
    )
    max_grad_norm: float = Field(1.0, gt=0)

    @property
    def steps_per_iteration(self) -> int:
        """Optimizer steps on one rollout."""
        return self.batch_size // self.minibatch_size * self.epochs

    @property
    def group_size(self) -> int:
        """Replies to one prompt in a rollout. RLOO has no other baseline, so it needs more."""
        return self.group or (4 if self.estimator == "rloo" else 2)

    def kl_limit(self, tokens: int) -> float:
        """The KL budget in nats per response, where a reply has at most ``tokens`` tokens."""
        return self.kl_budget or BUDGET_PER_TOKEN * tokens

    def require_fit(self) -> None:
        """Refuse options that do not go together.

        Raises:
            InvalidInputError: Batches are not made of whole minibatches and groups, or the smallest
                share of replay is above the largest.
        """
        unit = math.lcm(self.minibatch_size, self.group_size)
        if self.batch_size % unit:
            fitting = unit * max(1, round(self.batch_size / unit))
            raise InvalidInputError(
                f"cycle.policy.batch_size {self.batch_size} must be a multiple of minibatch_size "
                f"{self.minibatch_size} and of group {self.group_size}; use {fitting}, or change "
                "one of the others"
            )
        if self.replay_share > self.most_replay_share:
            raise InvalidInputError(
                f"cycle.policy.replay_share {self.replay_share} is above most_replay_share "
                f"{self.most_replay_share}; lower it, or raise the other"
            )


class GateSettings(Stage):
    """Limits that a candidate has to meet before it is served."""

    prompts: int = Field(200, ge=20, description="replies of each policy to held-out prompts")
    min_prompts: int = Field(
        6, ge=2, description="fewest different held-out prompts with a comparison"
    )
    members: int = Field(
        10,
        ge=2,
        le=50,
        description="members of the held-out reward model; each is fitted without its share of the "
        "questions and scores these, and how they differ widens the win rate's bounds",
    )
    error_rate: float = Field(
        0.05,
        gt=0,
        lt=0.5,
        description="probability that one of all cycles since the last promotion serves a policy "
        "that is no better; each later cycle has less of it",
    )
    meaningless_votes: float = Field(
        0.02, gt=0, lt=0.5, description="probability that votes without a meaning train a policy"
    )
    confidence_z: float = Field(
        1.645, gt=0, description="one-sided normal quantile of all other bounds"
    )
    min_win_rate_low: float = Field(0.5, ge=0, le=1, description="lower bound of the win rate")
    max_kl: float | None = Field(
        None,
        gt=0,
        description="mean KL to the anchor per response, in nats; none = 0.6 for each of "
        "reply.tokens",
    )
    max_empty_rate: float = Field(0.02, ge=0, le=1, description="responses without text")
    max_unfinished_increase: float = Field(
        0.05,
        ge=0,
        le=1,
        description="share of responses without an end within `reply.tokens`, beyond the served "
        "policy's share and sampling noise",
    )
    max_cut_increase: float = Field(
        0.05, ge=0, le=1, description="the same of responses that end in mid-sentence"
    )
    max_repeated_increase: float = Field(
        0.05, ge=0, le=1, description="the same of responses that repeat words"
    )
    max_same_rate: float = Field(
        0.15,
        ge=0,
        le=1,
        description="share of pairs of different questions with the same response; above it, these "
        "responses have to fit their questions",
    )
    probes: str | None = Field(
        None, description="file of probes that are asked beside the packaged ones, JSON lines"
    )
    packaged_probes: bool = Field(
        True, description="ask the starter's probes of the starter, the general ones of others"
    )
    probe_margin: float = Field(
        0.05,
        ge=0,
        lt=1,
        description="share of the probes of a kind that a candidate may fail more often than the "
        "served policy does; beyond it and chance, it is rejected",
    )
    probe_error_rate: float = Field(
        0.05,
        gt=0,
        lt=0.5,
        description="probability that probes of any kind reject a candidate that fails more often "
        "by just the margin",
    )

    def kl_limit(self, tokens: int) -> float:
        """The largest KL in nats per response, where a reply has at most ``tokens`` tokens."""
        return self.max_kl or GATE_KL_PER_TOKEN * tokens


class DataSettings(Stage):
    """How much of what people said one cycle looks at; below these caps it looks at all of it.

    An opinion is a comparison, a ranking, or a rater's opposite thumbs on one prompt. How likely it
    is to be drawn falls with its age and with the versions of the policy that came since, but never
    below the floor. It is higher where raters disagree.

    Source:
        Noukhovitch et al. 2024, arXiv:2410.18252: preferences about replies of earlier policies go
        on teaching, less and less. The default numbers are the project's.
    """

    most_opinions: int = Field(4000, ge=1, description="opinions to train on")
    most_thumbs: int = Field(
        2000, ge=1, description="thumbs without an opposite, and replies found bad, to train on"
    )
    most_held_out: int = Field(
        1000,
        ge=1,
        description="most held-out opinions; also most of held-out raters, and most thumbs",
    )
    most_gate_prompts: int = Field(
        500, ge=2, description="different prompts on which policies are compared"
    )
    most_unvoted_prompts: int = Field(
        1000, ge=0, description="newest training prompts that nobody voted on"
    )
    most_demonstrations: int = Field(1000, ge=1, description="demonstrations to train on")
    fewest_demonstrations: int = Field(
        128, ge=0, description="above the cap, old ones fill up to this many"
    )
    demonstration_mix: float = Field(
        1.0, ge=0, description="above the cap, old demonstrations for each new one"
    )
    old_share: float = Field(
        0.5,
        ge=0,
        le=1,
        description="share of a cap that is kept for old opinions",
    )
    half_life_days: float = Field(30.0, gt=0, description="an opinion's chance halves in this time")
    half_life_versions: float = Field(
        4.0, gt=0, description="it also halves when this many newer policies have been served"
    )
    floor: float = Field(0.2, gt=0, le=1, description="smallest chance beside a new opinion's")
    half_life_votes: int | None = Field(
        None,
        ge=0,
        description="an opinion counts half after so many newer ones, where tastes change; 0 = "
        "all count as they are; none = so, unless the newest are foretold clearly better otherwise",
    )
    programs: tuple[Literal["simulated", "judge"], ...] = Field(
        (),
        description="programs whose votes train beside people's: `simulated` visitors, model "
        "judges (`judge`); where no person has voted, simulated visitors stand in for people",
    )
    programs_share: float = Field(
        0.5, ge=0, le=1, description="of the weight that trains, most that these have"
    )
    programs_decide: bool = Field(
        False, description="the gate asks these programs, too, and not people alone"
    )


class TrialSettings(Stage):
    """People compare two policies, blind: a canary before a promotion, a guard after it.

    A share of the side-by-sides then shows a reply of each. What the choices show is measured by
    bets (`rlhf_core/gate/betting.py`): at 20, it is shown.
    """

    canary_share: float = Field(
        0.5, gt=0, le=1, description="of the side-by-sides, while there is a canary"
    )
    guard_share: float = Field(
        0.25, ge=0, le=1, description="of the side-by-sides, while a guard watches; 0 = no guard"
    )
    canary_choices: int = Field(
        600, ge=20, description="after so many a canary that is not shown to be better is rejected"
    )
    guard_choices: int = Field(
        600, ge=20, description="after so many a guard ends, if nothing is shown"
    )
    days: float = Field(30.0, gt=0, description="after so many days either ends as well")


class AlarmSettings(Stage):
    """When a cycle's numbers raise an alarm; none of these changes what a cycle does.

    The defaults let the starter's healthy cycles pass: these halve the length of replies, and leave
    0.4 of the entropy.
    """

    length_growth: float = Field(
        1.5, gt=1, description="mean length of replies, beside the served policy's or the first's"
    )
    length_fall: float = Field(0.4, ge=0, lt=1, description="the same, where replies get shorter")
    entropy_fall: float = Field(
        0.25, ge=0, lt=1, description="entropy per token that is left of the first policy's"
    )
    kl_share: float = Field(0.8, gt=0, description="KL to the anchor, as a share of the gate's")
    score_rise: float = Field(
        0.25,
        ge=0,
        description="rise of the score in PPO, in standard deviations of the reference's replies, "
        "that is wrong if the win rate does not rise too",
    )
    win_rate: float = Field(
        0.5, ge=0, le=1, description="win rate by held-out votes at which such a rise is wrong"
    )
    agreement_fall: float = Field(
        0.1,
        gt=0,
        le=1,
        description="share of unseen votes that the reward model no longer predicts, beside the "
        "mean of the last three cycles",
    )
    rater_share: float = Field(
        0.5, gt=0, le=1, description="largest rater's share of the weight of all comparisons"
    )
    live_edge: float = Field(
        0.25,
        ge=0,
        le=1,
        description="share of the win rate's distance from 50% that people's choices have to "
        "confirm; they are noisier than the gate",
    )


class CycleSettings(Stage):
    """One cycle, from votes to a published or rejected adapter."""

    min_comparisons: int = Field(
        20,
        ge=1,
        description="with less evidence, a cycle is refused; in decided votes on different "
        "questions, of which a tie and “both bad” are half",
    )
    full_comparisons: int = Field(
        80,
        ge=0,
        description="with less evidence than this, PPO takes fewer iterations, by its square root; "
        "0 = never fewer",
    )
    min_new_comparisons: int = Field(
        1, ge=0, description="fewest comparisons that no cycle has used"
    )
    promotion: Literal["offline", "canary", "manual"] = Field(
        "offline",
        description="what becomes of a candidate that passes the gate; `offline`: it is served, "
        "and people's choices can take it back; `canary`: people compare it with the served one, "
        "and it is served once they find it better; `manual`: it waits for an operator",
    )
    pretraining_file: str | None = Field(
        None,
        description="text for the ptx loss, which keeps earlier skills, one document a line; the "
        "starter has its own",
    )
    threads: int = Field(1, ge=1, description="CPU threads of training")
    seed: int = Field(0, description="each cycle adds its number, so no two are alike")
    data: DataSettings = DataSettings()
    lora: LoraSettings = LoraSettings()
    sft: SFTSettings = SFTSettings()
    reward: RewardSettings = RewardSettings()
    policy: PolicySettings = PolicySettings()
    gate: GateSettings = GateSettings()
    trial: TrialSettings = TrialSettings()
    alarms: AlarmSettings = AlarmSettings()

    def for_evidence(self, effective: float) -> "CycleSettings":
        """The settings with so much evidence: where it is thin, PPO takes a smaller step.

        What a reward model got wrong by chance falls with the square root of what it learnt from.
        So does the way that PPO may go by its scores.
        """
        if effective >= self.full_comparisons:
            return self
        share = math.sqrt(effective / self.full_comparisons)
        fewer = {"iterations": max(1, round(self.policy.iterations * share))}
        return self.model_copy(update={"policy": self.policy.model_copy(update=fewer)})

    def require_fit(self) -> None:
        """Refuse options that do not go together.

        Raises:
            InvalidInputError: As for `PolicySettings`; or a cycle may not look at as much as it
                needs, so that it would always be refused.
        """
        self.policy.require_fit()
        for needed, cap in (
            ("min_comparisons", "most_opinions"),
            ("gate.min_prompts", "most_gate_prompts"),
            ("gate.min_prompts", "most_held_out"),
        ):
            owner = self.gate if needed.startswith("gate.") else self
            least, most = getattr(owner, needed.rpartition(".")[2]), getattr(self.data, cap)
            if least > most:
                raise InvalidInputError(
                    f"cycle.{needed} {least} is above cycle.data.{cap} {most}; lower the one or "
                    "raise the other"
                )
