"""A model as a judge, asked by `feedback-chat judge`: pairs of replies in a store of their own.

Each question has its principles and its store, in a folder that is kept. So a run that was stopped
goes on, and another model or other principles are another judge in the same store. Two equal
replies are asked about by nobody, and are a tie.

Which pair is which stands in a file, written anew after each pair. A run that is killed between the
two leaves a pair in the store that no place is known of: the next run stores that one once more,
and what a judge says of the first counts nowhere but in the report of its habits.
"""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from benchmarks.loop import run_command
from benchmarks.two_questions.asking import Asked, Question, Reply
from benchmarks.two_questions.files import write_whole
from benchmarks.two_questions.raters import WON
from feedback_store import FeedbackStore
from feedback_store.raters.judging.report import JudgeReport
from feedback_store.records import CandidateReply, PromptMessage

PRINCIPLES = Path(__file__).parent
STORE, PLACES = "feedback.db", "places.json"
EVERY = 10**9  # pairs at most in a run of the judge, who asks for a number
Policies = Mapping[str, Sequence[Reply]]


class Place(TypedDict):
    """Which pair it is: a policy, a request's number, and the label that the policy's reply has."""

    policy: str
    number: int
    label: str


@dataclass(frozen=True, slots=True)
class ModelJudged:
    """What a model said.

    Attributes:
        model: Which one.
        wins: By policy, the number of each request that got a vote, and 1, 0 or one half.
        ties: How many of its votes are ties, over all pairs of this question.
        report: Its habits, over the same.
    """

    model: str
    wins: Mapping[str, Mapping[int, float]]
    ties: int
    report: JudgeReport


def keep_pairs(
    folder: Path, asked: Sequence[Asked], policies: Policies, old: Sequence[Reply], *, seed: int
) -> None:
    """Store a pair for each request and policy, all policies' of one request before the next.

    The sides are drawn by lot; they matter little, as each pair is asked about in both orders.
    Pairs that are there already stay.
    """
    places = _places(folder)
    known = {(place["policy"], place["number"]) for place in places.values()}
    sides = random.Random(f"judge/{seed}")
    with FeedbackStore(folder / STORE) as store:
        owner = store.add_rater("benchmark", kind="simulated", consent="1").id
        for number, one in enumerate(asked):
            for name, replies in policies.items():
                label, pair = sides.choice("ab"), [replies[number][0], old[number][0]]
                if (name, number) in known or pair[0] == pair[1]:
                    continue
                shown = [CandidateReply(text) for text in pair[:: 1 if label == "a" else -1]]
                said = [PromptMessage(role=m["role"], content=m["content"]) for m in one.prompt]
                last = store.add_dialogue(owner, said)[-1]
                candidates, _ = store.add_candidates(last.id, shown, rater_id=owner)
                places[candidates] = Place(policy=name, number=number, label=label)
                write_whole(folder / PLACES, json.dumps(places))


def ask_model(folder: Path, question: Question, url: str, model: str) -> dict[str, Any]:
    """Ask about all pairs that have no answer yet; what the command says of its run."""
    principles = str(PRINCIPLES / f"{question}.txt")
    words = ["--endpoint", url, "--model", model, "--principles", principles, "--limit", str(EVERY)]
    said, seconds = run_command("judge", "--data", str(folder), *words, "--no-probes", "--json")
    return dict(said["run"]) | {"seconds": round(seconds)}


def judged(folder: Path, policies: Policies, old: Sequence[Reply], n: int) -> ModelJudged | None:
    """What the last judge that was asked said of the first `n` requests; None if nobody was.

    Equal replies are a tie, up to the last request that the judge was asked about.
    """
    places = _places(folder)
    with FeedbackStore(folder / STORE) as store:
        if not (judges := store.judges()):
            return None
        store.refresh_comparisons()
        report = store.judge_report(judges[-1].rater_id)
        votes = [vote for vote in store.choices() if vote.rater_id == judges[-1].rater_id]
    wins: dict[str, dict[int, float]] = {name: {} for name in policies}
    for vote in votes:
        place, won = places.get(vote.candidates_id), WON[vote.choice]
        if place is not None and place["number"] < n:
            wins[place["policy"]][place["number"]] = won if place["label"] == "a" else 1 - won
    for name, own in wins.items():
        if own:  # a judge without verdicts says nothing of equal replies, either
            own |= {k: 0.5 for k in range(max(own)) if policies[name][k][0] == old[k][0]}
    ties = sum(vote.choice == "tie" for vote in votes)
    return ModelJudged(judges[-1].model, wins, ties, report)


def _places(folder: Path) -> dict[str, Place]:
    path = folder / PLACES
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, Place] = json.loads(path.read_text()) if path.exists() else {}
    return found
