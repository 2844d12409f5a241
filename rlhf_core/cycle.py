"""One cycle: snapshot -> SFT -> reward model -> PPO -> evaluate -> publish or reject.

A process of its own, and the only module here that knows the store. Invariants: votes on held-out
prompts train nothing but the gate's judge; the served adapter changes only in the last step, by one
row, after the new adapter is complete on disk; whatever fails before that leaves serving as it was;
a cycle that died is gone on with by the next one, and ends as it would have ended.

Started in several processes, the first runs the cycle and the others help it to train.
"""

import json
import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

import feedback_store
from feedback_store import FeedbackStore
from rlhf_core.adapters import publish_adapter
from rlhf_core.base_model import Base, Quantization, load_base
from rlhf_core.chat_format import fit_prompt
from rlhf_core.config import CycleSettings
from rlhf_core.critic import reward_head
from rlhf_core.errors import MemoryExhaustedError, NotEnoughDataError, RLHFError
from rlhf_core.evaluation import Accuracy, Evaluation, accuracy, calibration_error, evaluate
from rlhf_core.gate import Check, Verdict, check_policy, check_votes, decide
from rlhf_core.processes import agreed, first_process
from rlhf_core.records import Comparison, Demonstration, Prompt, Unpaired
from rlhf_core.report import flat_metrics, write_report
from rlhf_core.resume import FOLDER, clear, keep_evidence, take_over
from rlhf_core.reward_model import RewardModel
from rlhf_core.train_policy import train_policy
from rlhf_core.train_reward import train_reward
from rlhf_core.train_sft import train_sft

BASE_POLICY = "policy-000000"  # the base without an adapter
STAGES = ("snapshot", "sft", "reward", "policy", "evaluate", "publish")
_SHARE = dict(zip(STAGES, (0.02, 0.13, 0.2, 0.5, 0.13, 0.02), strict=True))  # of the whole time
STARTER_TEXTS = 2000  # almanac documents for the ptx term
SMALL_MODEL_PARAMETERS = 5_000_000  # below this, one thread is faster than two

Progress = Callable[[str, float, dict[str, float]], None]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The evidence of one cycle, fixed at its start."""

    ids: tuple[str, ...]
    other_ids: tuple[str, ...]  # of thumbs and demonstrations
    train: tuple[Comparison, ...]
    held_out: tuple[Comparison, ...]
    train_votes: tuple[Comparison, ...]  # without edits: what raters said of two given replies
    held_out_votes: tuple[Comparison, ...]
    train_thumbs: tuple[Unpaired, ...]  # without an opposite
    held_out_thumbs: tuple[Unpaired, ...]
    demonstrations: tuple[Demonstration, ...]
    prompts: tuple[Prompt, ...]  # training prompts, each once
    older_prompts: tuple[Prompt, ...]  # those of them that only earlier cycles' votes are about
    held_out_prompts: tuple[Prompt, ...]


@dataclass(slots=True)
class Run:
    """One running cycle: where its files are and whom it tells how far it is."""

    store: FeedbackStore
    cycle_id: int
    data: Path
    settings: CycleSettings
    served: str
    tell: Progress | None = None
    model: str = "starter"
    curves: dict[str, dict[float, float]] = field(default_factory=dict)  # by share done
    notes: dict[str, float] = field(default_factory=dict)  # what was done, for the report
    _told: float = 0.0

    @property
    def directory(self) -> Path:
        """The cycle's own directory."""
        return self.data / "cycles" / f"{self.cycle_id:06d}"

    @property
    def checkpoints(self) -> Path:
        """Where its stages keep what a killed one goes on from."""
        return self.directory / FOLDER

    def report(self, stage: str, fraction: float, metrics: dict[str, float] | None = None) -> None:
        """Note progress: in the metrics file, for the caller, and twice a second in the store."""
        if not first_process():
            return
        metrics = metrics or {}
        before = sum(_SHARE[s] for s in STAGES[: STAGES.index(stage)])
        if metrics:
            with (self.directory / "metrics.jsonl").open("a") as out:
                out.write(
                    json.dumps({"stage": stage, "fraction": round(fraction, 4), **metrics}) + "\n"
                )
        self.draw(fraction, metrics)
        if fraction in (0.0, 1.0) or time.monotonic() - self._told > 0.5:
            self._told = time.monotonic()
            done = before + _SHARE[stage] * fraction
            self.store.update_cycle(self.cycle_id, stage=stage, progress=round(done, 4))
        if self.tell:
            self.tell(stage, fraction, metrics)

    def draw(self, fraction: float, metrics: dict[str, float]) -> None:
        """Add to the report's curves; what a resumed stage repeats replaces itself."""
        for name in ("objective/kl", "objective/scores"):
            if name in metrics:
                self.curves.setdefault(name, {})[round(fraction, 4)] = metrics[name]

    def reporter(self, stage: str) -> Callable[[float, dict[str, float]], None]:
        """The progress callback of one stage."""
        return lambda fraction, metrics: self.report(stage, fraction, metrics)


def run_cycle(
    data: Path,
    settings: CycleSettings,
    *,
    model: str = "starter",
    quantization: Quantization = "nf4",
    progress: Progress | None = None,
    allow_old_sqlite: bool = False,
) -> feedback_store.Cycle:
    """Run one cycle on a data directory and return its row, whose state says how it ended.

    If the last cycle died, and this one is to do the same, it goes on from there.

    Args:
        data: The service's data directory; a running server follows what is published in it.
        settings: Resolved settings; written beside the results.
        model: The base, as `load_base` takes it.
        quantization: How the base's linear layers are stored.
        progress: Called as `(stage, fraction, metrics)`.
        allow_old_sqlite: Open the store on a SQLite with the WAL-reset bug all the same.

    Raises:
        CycleInProgressError: Another cycle is running on this data directory.
        RLHFError: A stage failed; the row says so too, and serving is as it was.
    """
    with FeedbackStore(data / "feedback.db", allow_old_sqlite=allow_old_sqlite) as store:
        config = settings.model_dump() | {"model": model, "quantization": quantization}
        row = store.start_cycle(config, pid=os.getpid())
        run = Run(store, row.id, data, settings, store.serving().adapter, progress, model)
        try:
            run.directory.mkdir(parents=True, exist_ok=True)
            (run.directory / "config.json").write_text(json.dumps(config, indent=2) + "\n")
            _run(run, _evidence(run, config), quantization)
        except NotEnoughDataError as exc:
            store.finish_cycle(row.id, state="refused", reasons=(str(exc),))
        except BaseException as exc:
            reason = str(exc).strip() or type(exc).__name__
            store.finish_cycle(row.id, state="failed", reasons=(reason,))
            if isinstance(exc, RLHFError) and not isinstance(exc, MemoryExhaustedError):
                clear(data / "cycles")  # the same would go wrong again
            raise
        clear(data / "cycles")
        return store.cycle(row.id)


def help_cycle(
    data: Path,
    settings: CycleSettings,
    *,
    model: str = "starter",
    quantization: Quantization = "nf4",
) -> None:
    """What every process but the first does while that one runs the cycle: train with it.

    It reads the data directory, which all processes share, and writes nothing. The arguments are
    those of `run_cycle`. If the first process fails, the launcher ends this one.
    """
    told: Any = agreed(None)
    cycle_id, served, snapshot = told
    nothing: Any = None  # no store: it is the first process's
    run = Run(nothing, cycle_id, data, settings, served, model=model)
    _train(run, snapshot, quantization)


def _evidence(run: Run, config: dict[str, Any]) -> Snapshot:
    """What to learn from: the evidence of the cycle that died, or else all there is now."""
    left = _left_by_the_last(run, config)
    clear(run.data / "cycles", but=run.directory)
    if left is not None:
        for line in _lines(run.directory / "metrics.jsonl"):
            run.draw(line["fraction"], line)
        return left
    snapshot = take_snapshot(run.store, run.settings)
    ids = (*snapshot.ids, *snapshot.other_ids)
    return keep_evidence(run.checkpoints, snapshot, config=config, served=run.served, ids=ids)


def _left_by_the_last(run: Run, config: dict[str, Any]) -> Snapshot | None:
    """The evidence of the last cycle, if it failed and this one is to do the same."""
    last = next((c for c in run.store.cycles(limit=2) if c.id != run.cycle_id), None)
    if last is None or last.state != "failed":
        return None
    snapshot = take_over(
        run.data / "cycles" / f"{last.id:06d}",
        run.directory,
        Snapshot,
        config=config,
        served=run.served,
        usable=lambda: _usable(run.store),
    )
    if snapshot is not None:
        run.notes["resumed_cycle"] = float(last.id)
    return snapshot


def _usable(store: FeedbackStore) -> set[str]:
    """The ids of all that may be learnt from now: nobody has taken it back since."""
    store.assess_raters(by="cycle")
    ids = {c.id for c in store.comparisons()} | {thumb.id for thumb in store.unpaired()}
    return ids | {d.id for d in store.demonstrations(split="train")}


def _lines(file: Path) -> list[dict[str, Any]]:
    """The metrics of a cycle; a line that a kill has cut is left out."""
    text = file.read_text() if file.exists() else ""
    return [json.loads(line) for line in text.splitlines() if line.endswith("}")]


@dataclass(frozen=True, slots=True)
class Trained:
    """What the training stages came to."""

    base: Base
    snapshot: Snapshot
    reward: RewardModel
    judge: RewardModel
    reference: str | None
    found: tuple[Accuracy, Accuracy]
    checks: tuple[Check, ...]

    @property
    def worth_it(self) -> bool:
        """Whether the votes mean anything; else no policy is worth training on them."""
        return all(check.passed for check in self.checks)


def _train(run: Run, snapshot: Snapshot, quantization: Quantization) -> Trained:
    """SFT, reward models and PPO; in every process, and with the same result."""
    base, settings = _load(run, run.model, quantization), run.settings
    snapshot = fit_prompts(snapshot, base, settings.policy.max_prompt_tokens)
    reference = _imitate(run, base, snapshot)
    reward, judge = _learn_to_judge(run, base, snapshot)
    found = (
        accuracy(reward.score, snapshot.held_out_votes, z=settings.gate.confidence_z),
        accuracy(judge.score, snapshot.train_votes, z=settings.gate.confidence_z),
    )
    trained = Trained(
        base, snapshot, reward, judge, reference, *agreed((found, tuple(check_votes(*found))))
    )
    if trained.worth_it:
        _optimise(run, base, snapshot, reward, reference)
    return trained


def _run(run: Run, snapshot: Snapshot, quantization: Quantization) -> None:
    started = time.monotonic()
    run.report("snapshot", 1.0)
    run.store.use_comparisons(run.cycle_id, snapshot.ids)
    agreed((run.cycle_id, run.served, snapshot))
    trained = _train(run, snapshot, quantization)
    checks, evaluation = [*trained.checks], None
    if trained.worth_it:
        evaluation = _evaluate(
            run, trained.base, trained.snapshot, trained.judge, trained.reference
        )
        checks += check_policy(evaluation, run.settings.gate)
    verdict = decide(checks)

    run.report("publish", 0.0)
    metrics = flat_metrics(*trained.found, evaluation) | run.notes
    metrics["seconds"] = round(time.monotonic() - started, 1)
    write_report(
        run.directory / "report.json",
        verdict,
        served=run.served,
        metrics=metrics,
        evaluation=evaluation,
        curves={name: list(curve.values()) for name, curve in run.curves.items()},
    )
    adapter = _publish(run, trained.base, trained.reward, metrics) if evaluation else None
    _finish(run, verdict, metrics, adapter)


def take_snapshot(store: FeedbackStore, settings: CycleSettings) -> Snapshot:
    """Derive comparisons from all events, weigh their raters, and fix what this cycle will use.

    Raises:
        NotEnoughDataError: Too few usable comparisons, or none that is new.
    """
    store.assess_raters(by="cycle")
    rows = store.comparisons()
    decided = [c for c in rows if c.label != "tie"]
    if len(decided) < settings.min_comparisons:
        raise NotEnoughDataError(
            f"too little evidence: {len(decided)} decided comparisons, {settings.min_comparisons} "
            f"are needed; collect more votes or lower cycle.min_comparisons"
        )
    new = {c.id for c in store.comparisons(unused=True)}
    if len(new) < settings.min_new_comparisons:
        raise NotEnoughDataError(
            f"nothing new: {len(new)} comparisons that no cycle has used, "
            f"{settings.min_new_comparisons} are needed; collect more votes"
        )
    sides = {side: [c for c in rows if c.split == side] for side in ("train", "held_out")}
    train, held_out = sides["train"], sides["held_out"]
    different = len({json.dumps(c.prompt) for c in held_out if c.label != "tie"})
    if different < settings.gate.min_prompts:
        raise NotEnoughDataError(
            f"too little evidence: votes on {different} held-out prompts, "
            f"{settings.gate.min_prompts} are needed; collect votes on more different questions"
        )
    written, thumbs = store.demonstrations(split="train"), store.unpaired()
    demonstrations = [Demonstration(d.prompt, d.content) for d in written]
    across: dict[str, list[feedback_store.Comparison]] = {}
    alone: dict[str, list[feedback_store.Unpaired]] = {}
    for side in sides:
        across[side], alone[side] = feedback_store.pair_across_raters(
            [thumb for thumb in thumbs if thumb.split == side]
        )
    raters: defaultdict[str, str] = defaultdict(lambda: str(len(raters)))
    return Snapshot(
        ids=tuple(c.id for c in rows),
        other_ids=(*(d.id for d in written), *(thumb.id for thumb in thumbs)),
        train=_plain([*train, *across["train"]], raters),
        held_out=_plain([*held_out, *across["held_out"]], raters),
        train_votes=_plain([c for c in train if c.source != "edit"], raters),
        held_out_votes=_plain([c for c in held_out if c.source != "edit"], raters),
        train_thumbs=_alone(alone["train"], raters),
        held_out_thumbs=_alone(alone["held_out"], raters),
        demonstrations=tuple(demonstrations),
        prompts=_unique([*(c.prompt for c in train), *(d.prompt for d in demonstrations)]),
        older_prompts=_without(
            [c.prompt for c in train if c.id not in new], [c.prompt for c in train if c.id in new]
        ),
        held_out_prompts=_unique([c.prompt for c in held_out]),
    )


def fit_prompts(snapshot: Snapshot, base: Base, max_tokens: int) -> Snapshot:
    """The snapshot with prompts as the server would show them: oldest turns left out if too long.

    A prompt whose last message alone is too long is left out; rollouts on it would fit nowhere.
    """

    def fitted(prompts: Sequence[Prompt]) -> tuple[Prompt, ...]:
        cut = (fit_prompt(base.tokenizer, prompt, max_tokens) for prompt in prompts)
        return _unique([prompt for prompt in cut if prompt is not None])

    held_out = fitted(snapshot.held_out_prompts)
    if not held_out:
        raise NotEnoughDataError("0 held-out prompts to compare policies on; collect more votes")
    return replace(
        snapshot,
        prompts=fitted(snapshot.prompts),
        older_prompts=fitted(snapshot.older_prompts),
        held_out_prompts=held_out,
    )


def _load(run: Run, model: str, quantization: Quantization) -> Base:
    """The base with the served policy on it twice: `served` frozen, `policy` to be trained."""
    base = load_base(model, quantization=quantization, training=True)
    if base.device.type == "cpu" and base.model.num_parameters() < SMALL_MODEL_PARAMETERS:
        torch.set_num_threads(1)
    torch.manual_seed(run.settings.seed)
    if run.served == BASE_POLICY:
        base.attach("policy", lora=run.settings.lora, trainable=True)
    else:
        path = run.data / "adapters" / run.served
        base.attach("policy", path, trainable=True)
        base.attach("served", path)
    return base


def _imitate(run: Run, base: Base, snapshot: Snapshot) -> str | None:
    """SFT, then freeze the result as PPO's reference; returns the reference's name."""
    settings = run.settings.sft
    run.report("sft", 0.0)
    have, needed = len(snapshot.demonstrations), settings.min_demonstrations
    counted = {"sft": 0.0, "demonstrations": have, "demonstrations_needed": needed}
    run.notes |= counted
    if settings.enabled and have >= needed:
        judge = _last_reward(run, base)
        asked = _without(snapshot.prompts, [d.prompt for d in snapshot.demonstrations])
        done = train_sft(
            base,
            snapshot.demonstrations,
            adapter="policy",
            settings=settings,
            texts=_pretraining_texts(run.settings, run.model) if settings.pretraining_share else (),
            score=judge.score if judge and asked else None,
            prompts=asked,
            progress=run.reporter("sft"),
            seed=run.settings.seed,
            checkpoints=run.checkpoints,
        )
        run.notes |= {"sft": 1.0} | {k: v for k, v in done.items() if k.startswith("sft/")}
        if judge is not None:
            judge.drop()
    else:
        run.report("sft", 1.0, counted)
        if run.served == BASE_POLICY:
            return None
    base.copy_adapter("policy", "reference")
    return "reference"


def _last_reward(run: Run, base: Base) -> RewardModel | None:
    """The reward model that the served policy was trained with, to choose SFT's best pass by."""
    number = run.served.rpartition("-")[2]
    path = run.data / "adapters" / f"reward-{number}"
    return RewardModel.load(base, path) if path.is_dir() else None


def _learn_to_judge(run: Run, base: Base, snapshot: Snapshot) -> tuple[RewardModel, RewardModel]:
    """The reward model from training votes, and the gate's judge from held-out votes alone."""
    settings, seed = run.settings.reward, run.settings.seed
    run.report("reward", 0.0)
    reward = train_reward(
        base,
        snapshot.train,
        settings=settings,
        name="reward",
        lora=run.settings.lora,
        progress=lambda f, m: run.report("reward", 0.75 * f, m),
        seed=seed,
        unpaired=snapshot.train_thumbs,
        demonstrations=snapshot.demonstrations,
        checkpoints=run.checkpoints,
    )
    judge = train_reward(
        base,
        snapshot.held_out,
        settings=settings,
        name="judge",
        lora=run.settings.lora,
        progress=lambda f, _: run.report("reward", 0.75 + 0.25 * f),
        seed=seed + 1,
        unpaired=snapshot.held_out_thumbs,
        checkpoints=run.checkpoints,
    )
    run.notes |= {
        "reward_temperature": round(reward.temperature, 4),
        "reward_ece": round(calibration_error(reward.preference, snapshot.held_out_votes), 4),
        "judge_ece": round(calibration_error(judge.preference, snapshot.train_votes), 4),
    }
    return reward, judge


def _optimise(
    run: Run, base: Base, snapshot: Snapshot, reward: RewardModel, reference: str | None
) -> None:
    run.report("policy", 0.0)
    settings, older = run.settings, snapshot.older_prompts
    recent = _without(snapshot.prompts, older)
    done = train_policy(
        base,
        recent or older,
        reward.score,
        adapter="policy",
        reference=reference,
        settings=settings.policy,
        demonstrations=snapshot.demonstrations,
        texts=_pretraining_texts(settings, run.model) if settings.policy.ptx_coef else None,
        older_prompts=older if recent else (),
        value_head=reward_head(reward),
        progress=run.reporter("policy"),
        seed=settings.seed,
        checkpoints=run.checkpoints,
    )
    run.notes |= {name: done[name] for name in ("iterations", "kl_stopped")}


def _pretraining_texts(settings: CycleSettings, model: str) -> list[str]:
    """Text of what the model could do before: the operator's file, or the starter's own.

    Raises:
        NotEnoughDataError: The file cannot be read.
    """
    if settings.pretraining_file is not None:
        try:
            lines = Path(settings.pretraining_file).read_text().splitlines()
        except (OSError, UnicodeDecodeError) as exc:
            raise NotEnoughDataError(
                f"pretraining_file {settings.pretraining_file} cannot be read: {exc}"
            ) from exc
        return [line for line in lines if line.strip()]
    if model == "starter":
        from rlhf_core.starter.corpus import skill_texts

        return skill_texts(STARTER_TEXTS, settings.seed)
    return []


def _evaluate(
    run: Run, base: Base, snapshot: Snapshot, judge: RewardModel, reference: str | None
) -> Evaluation:
    run.report("evaluate", 0.0)
    wanted, prompts = run.settings.gate.prompts, snapshot.held_out_prompts
    repeats = -(-wanted // len(prompts))  # several replies to each, counted as one cluster
    return evaluate(
        base,
        (prompts * repeats)[: max(wanted, len(prompts))],
        judge.score,
        candidate="policy",
        served=None if run.served == BASE_POLICY else "served",
        reference=reference,
        settings=run.settings.gate,
        seed=run.settings.seed,
    )


def _publish(run: Run, base: Base, reward: RewardModel, metrics: dict[str, float]) -> str:
    """Write the reward model and the policy as adapters, then their rows; returns the policy's.

    The rows come after the files, so that no row ever names what is not complete on disk.
    """
    number = run.store.next_adapter_number()
    kinds: tuple[Literal["reward", "policy"], ...] = ("reward", "policy")
    for kind in kinds:
        name, staging = f"{kind}-{number:06d}", run.directory / f"staging-{kind}"
        if kind == "policy":
            base.save("policy", staging)
        else:
            reward.save(staging)
        publish_adapter(
            staging,
            run.data / "adapters" / name,
            kind=kind,
            base=base.fingerprint,
            parent=run.served,
            extra={"cycle": run.cycle_id},
        )
        run.store.register_adapter(
            name, kind=kind, parent=run.served, cycle_id=run.cycle_id, metrics=metrics
        )
    return name


def _finish(run: Run, verdict: Verdict, metrics: dict[str, float], adapter: str | None) -> None:
    """End the cycle's row; a promotion serves the adapter in the same transaction.

    The verdict is about the policy that was served when the cycle began. If an operator serves
    another one meanwhile, nothing was shown against that one, and the cycle is rejected.
    """
    if verdict.promote:
        try:
            run.store.finish_cycle(
                run.cycle_id,
                state="promoted",
                metrics=metrics,
                adapter=adapter,
                serve=True,
                expected_serving=run.served,
            )
            return
        except feedback_store.ConflictError as exc:
            reasons: tuple[str, ...] = (f"{exc}; run another cycle",)
    else:
        reasons = verdict.reasons
    if adapter is not None:
        run.store.set_adapter_state(adapter, "rejected")
    run.store.finish_cycle(
        run.cycle_id, state="rejected", reasons=reasons, metrics=metrics, adapter=adapter
    )


def _plain(
    comparisons: Sequence[feedback_store.Comparison], raters: defaultdict[str, str]
) -> tuple[Comparison, ...]:
    """For training: numbers in place of the raters' names, and the pairs of one opinion together.

    The store gives each pair its part of its opinion's weight; training takes the mean over the
    pairs, so each gets the whole weight here.
    """
    groups = [_group(c) for c in comparisons]
    sizes = Counter(groups)
    numbers = {group: str(number) for number, group in enumerate(sizes)}
    return tuple(
        Comparison(
            c.prompt,
            c.response_a,
            c.response_b,
            c.label,
            weight=c.weight * (sizes[group] if group else 1),
            strength=c.strength,
            group=numbers[group] if group else None,
            raters=(raters[c.rater_id], raters[c.other_rater_id]) if c.other_rater_id else None,
            could_tie=c.source in ("choice", "ranking"),
        )
        for c, group in zip(comparisons, groups, strict=True)
    )


def _group(c: feedback_store.Comparison) -> tuple[str, ...] | None:
    """What the pairs of one ranking share, and those of one rater's thumbs on one prompt."""
    if c.source == "ranking":
        return c.event_ids
    return (c.rater_id, json.dumps(c.prompt)) if c.source == "thumbs" else None


def _alone(
    unpaired: Sequence[feedback_store.Unpaired], raters: defaultdict[str, str]
) -> tuple[Unpaired, ...]:
    return tuple(
        Unpaired(u.prompt, u.response, u.good, raters[u.rater_id], u.weight) for u in unpaired
    )


def _unique(prompts: Sequence[Prompt]) -> tuple[Prompt, ...]:
    """Each prompt once, in order of first appearance."""
    return tuple({json.dumps(p): p for p in prompts}.values())


def _without(prompts: Sequence[Prompt], others: Sequence[Prompt]) -> tuple[Prompt, ...]:
    """Each prompt once that is not among the others."""
    known = {json.dumps(p) for p in others}
    return tuple(p for p in _unique(prompts) if json.dumps(p) not in known)
