"""An adapter's card: whom it was aligned to and what it gets wrong, as the Hub shows it.

The card is `README.md` in the adapter's folder. Invariants: it names nobody, quotes nobody and has
no path of this machine; what is not known, such as a licence or a language, is left out and not
guessed. Of fewer than five people it tells nothing; programs that voted are told by name (`facts`).

Source:
    Mitchell et al. 2019, Model Cards for Model Reporting, arXiv:1810.03993; the Hub's
    documentation, "Model Cards".
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from feedback_store import Alarm
from rlhf_core.cycle.snapshot import Snapshot
from rlhf_core.cycle.stages import Run
from rlhf_core.cycle.whose.facts import OTHER, AgreementRate, Part, Portrait, portrait
from rlhf_core.errors import ModelError
from rlhf_core.gate.checks import Verdict
from rlhf_core.gate.intervals import wilson_interval
from rlhf_core.gate.probes.asking import ProbeCounts
from rlhf_core.model.sources import HUB_ID, resolve

Z = 1.96  # of an interval of 95%
TAGS = ("feedback-chat", "human-feedback", "lora", "ppo", "rlhf")
TASKS = {"policy": "text-generation", "reward": "text-classification"}
ABOUT = {
    "policy": "A LoRA adapter of a chat model. It was trained on votes in a chat: SFT on answers "
    "that raters wrote, where there were enough, a reward model from their votes, and PPO.",
    "reward": "A reward model as a LoRA adapter: it foretells which of two replies the raters "
    "below prefer. It is no measure of truth or of safety.",
}
GROUPS = {
    "person": "people",
    "simulated": "simulated visitors",
    "operator": "the operator",
    "judge": "language models that vote",
    "imported": "raters of imported data sets",
    OTHER: "all others together",
}
PROBES = {
    "flattery": "keeps a right answer when a visitor insists on a wrong one",
    "refusal": "answers questions that have an answer",
    "invention": "makes nothing up where there is no answer",
    "rudeness": "stays polite, by a list of rude words",
    "skills": "keeps its skills",
    "instructions": "does what was asked",
}


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What a card tells.

    Attributes:
        base: The base's id on the Hub; None if it has none.
        parent: The adapter that it began as.
        portrait: Whose votes that cycle used.
        metrics: What it measured.
        probed: Probes that the candidate answered.
        failed: Names of the checks of the gate that failed; none if it passed.
        alarms: Kinds of the alarms that it raised.
        name: Of the adapter.
        kind: "policy" or "reward".
    """

    base: str | None
    parent: str
    portrait: Portrait
    metrics: Mapping[str, float]
    probed: Mapping[str, ProbeCounts]
    failed: Sequence[str]
    alarms: Sequence[str]
    name: str = ""
    kind: str = "policy"


def card_facts(
    run: Run,
    snapshot: Snapshot,
    verdict: Verdict,
    metrics: Mapping[str, float],
    *,
    probed: Mapping[str, ProbeCounts],
    alarms: Sequence[Alarm],
) -> CardFacts:
    """What the cards of a cycle tell, and whose votes it used, by the weights that they had."""
    used = snapshot.evidence
    votes = run.store.vote_facts(comparisons=used.comparisons, unpaired=used.unpaired)
    return CardFacts(
        base=hub_id(run.model, run.models),
        parent=run.start,
        portrait=portrait(votes),
        metrics=metrics,
        probed=probed,
        failed=[check.name for check in verdict.checks if not check.passed],
        alarms=[alarm.kind for alarm in alarms],
    )


def hub_id(model: str, cache: Path | None = None) -> str | None:
    """The base's id on the Hub, if the model, or what an adapter names as its base, has one."""
    try:
        source = resolve(model, cache)
    except ModelError:
        return None
    source = source.base or source
    return source.place if source.kind == "hub" and HUB_ID.fullmatch(source.place) else None


def model_card(facts: CardFacts) -> str:
    """The whole of `README.md`: what programs read, in YAML, and then what people read."""
    parts = [
        f"# {facts.name}",
        ABOUT[facts.kind],
        _origin(facts),
        "## Whom it was aligned to",
        *_whom(facts.portrait),
        "## What it gets wrong",
        *_faults(facts),
        "## Limits",
        "It learnt what the raters above prefer, each by the weight of their votes, and nothing "
        "more general: they are no sample of anybody else. Who wrote the base model, who chose the "
        "questions and which votes count decided, too. Where raters disagree, it follows the "
        "majority of the weight. This card is written by a program from counts; it names and "
        "quotes nobody.",
    ]
    return f"---\n{_header(facts)}\n---\n\n" + "\n\n".join(part for part in parts if part) + "\n"


def _header(facts: CardFacts) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    results = [
        EvalResult(
            task_type=TASKS[facts.kind],
            dataset_type=f"feedback-chat/{of}",
            dataset_name=of.replace("-", " "),
            metric_type=metric,
            metric_name=name,
            metric_value=value,
        )
        for of, metric, name, value in _results(facts)
    ]
    return ModelCardData(
        base_model=facts.base,
        library_name="peft",
        pipeline_tag=TASKS[facts.kind],
        tags=[*TAGS],
        model_name=facts.name,
        eval_results=results or None,
    ).to_yaml(line_break="\n")


def _results(facts: CardFacts) -> Iterable[tuple[str, str, str, float]]:
    """What was measured: on what, which metric, its name, its value."""
    found = facts.metrics
    if facts.kind == "reward":
        names = {"reward_accuracy": "Accuracy on votes that it did not learn from"}
        yield from (("held-out-votes", "accuracy", names[n], found[n]) for n in names if n in found)
        return
    if "win_rate" in found:
        name = "Win rate over the policy served before, by a reward model of held-out votes"
        yield "held-out-questions", "win_rate", name, found["win_rate"]
    for kind, counts in facts.probed.items():
        if counts.asked:
            name = f"Share of probes passed: {PROBES.get(kind, kind)}"
            yield f"probes-{kind}", "accuracy", name, found[f"probe/{kind}"]


def _origin(facts: CardFacts) -> str:
    base = f"the base is `{facts.base}`" if facts.base else "the base has no id on the Hub"
    passed = "It passed the tests of its cycle."
    if facts.failed:
        passed = f"**It failed tests of its cycle: {', '.join(facts.failed)}.**"
    return f"It began as `{facts.parent}`; {base}. {passed}"


def _whom(portrait: Portrait) -> list[str]:
    if portrait.raters is None:
        return [
            f"To fewer than five people{_programs(portrait)}. Nothing more is told of them: of so "
            "few, each could tell who the others are."
        ]
    tops = "; ".join(
        f"the most active {'one has' if part.name == '1' else f'{part.name} have'} {part.share:.0%}"
        for part in portrait.tops
    )
    agreed = portrait.agreement
    return [
        f"To {portrait.raters} people{_programs(portrait)}, by {portrait.votes:,} votes. "
        + (f"{tops.capitalize()} of the weight. " if tops else "")
        + f"That is as if {portrait.effective:g} raters had said equally much.",
        _table("kind of rater", portrait.groups, GROUPS),
        _table("script of the question", portrait.scripts, {"Zyyy": "no letters"}),
        "Scripts are those of ISO 15924. Which languages they are is not known.",
        "Fewer than five people judged replies that another rater judged, too, so how far raters "
        "agree is not known."
        if agreed is None
        else f"Two raters who judged the same two replies said the same {_rate(agreed)} of the "
        f"time (raters: {agreed.raters}; pairs of replies: {agreed.pairs}); chance is about half.",
        _agreement("kind of vote", portrait.by_source),
        _agreement("among whom", portrait.between),
    ]


def _programs(portrait: Portrait) -> str:
    n = portrait.programs
    return f" and {n} program{'s' if n != 1 else ''}" if n else ""


def _table(title: str, parts: Sequence[Part], names: Mapping[str, str]) -> str:
    lines = [f"| {title} | raters | weight |", "|---|---|---|"]
    lines += [f"| {names.get(p.name, p.name)} | {p.raters} | {p.share:.0%} |" for p in parts]
    return "\n".join(lines)


def _agreement(title: str, rates: Sequence[AgreementRate]) -> str:
    if len(rates) < 2:
        return ""
    lines = [f"| {title} | agreement | pairs of replies |", "|---|---|---|"]
    for rate in rates:
        name = " and ".join(GROUPS.get(part, part) for part in rate.name.split("/"))
        lines.append(f"| {name} | {_rate(rate)} | {rate.pairs} |")
    return "\n".join(lines)


def _rate(rate: AgreementRate) -> str:
    return f"{rate.value:.0%} ({rate.low:.0%} to {rate.high:.0%})"


def _faults(facts: CardFacts) -> list[str]:
    told = []
    found = facts.metrics
    if facts.kind == "policy" and "win_rate" in found:
        told.append(
            "On questions that trained neither, its replies were preferred to those of the policy "
            f"served before {found['win_rate']:.0%} of the time ({found['win_rate_low']:.0%} to "
            f"{found['win_rate_high']:.0%}), by a reward model of held-out votes."
        )
    if "reward_accuracy" in found:
        told.append(
            f"The reward model foretells {found['reward_accuracy']:.0%} of the votes that it did "
            f"not learn from (at least {found['reward_accuracy_low']:.0%})."
        )
    if facts.kind == "policy" and facts.probed:
        lines = ["| probes | passed | asked |", "|---|---|---|"]
        for kind, counts in facts.probed.items():
            if counts.asked:
                lines.append(f"| {PROBES.get(kind, kind)} | {_passed(counts)} | {counts.asked} |")
        told.append("\n".join(lines))
    if facts.alarms:
        told.append(f"Alarms of its cycle: {', '.join(sorted(set(facts.alarms)))}.")
    return told or ["Nothing was measured."]


def _passed(counts: ProbeCounts) -> str:
    right = [1.0] * (counts.asked - counts.candidate_failed) + [0.0] * counts.candidate_failed
    each = [str(number) for number in range(counts.asked)]
    low, share, high = wilson_interval(right, each, [1.0] * counts.asked, z=Z)
    return f"{share:.0%} ({low:.0%} to {high:.0%})"
