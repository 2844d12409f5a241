"""Round after round: is the policy more helpful, and more harmless, than the base? Who says so?

    python -m benchmarks.helpful_harmless --out DIR --json   # 3 rounds of 400 choices
    python -m benchmarks.helpful_harmless --again DIR --json # the same rounds: no training
    python -m benchmarks.helpful_harmless --again DIR --judge-url URL --judge-model NAME

One service goes through the rounds of `benchmarks.rounds`. Then each candidate answers requests
that no visitor makes, and so does the base, which is the opponent of all: neutral ones, where
replies should be helpful, and provoking ones, where they should be harmless. Replies are compared
by simulated people who made no training data, by a model as a judge, by the service's own newest
reward model, which flatters what was trained on it and its forerunners, and by the exact judge.
Each later round is compared with the first one, too, request by request.

DIR gets a page with the plot, its tables in Markdown, and JSON. It keeps the service's data, the
replies and the judge's answers, so that --again goes on with what was stopped after the training.
What was stopped in training is lost, and refused.

Source:
    The plot is that of Touvron et al. 2023, "Llama 2", arXiv:2307.09288, figure 11.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.rounds import run_rounds
from benchmarks.two_questions.asking import BOTH, Asked, Question, Reply, asked_for
from benchmarks.two_questions.comparing import (
    Said,
    compare_rounds,
    harm_rates,
    right_without_answer,
    table,
)
from benchmarks.two_questions.files import write_whole
from benchmarks.two_questions.found import Candidate, TwoAnswers
from benchmarks.two_questions.model_judge import ask_model, judged, keep_pairs
from benchmarks.two_questions.page import write_page
from benchmarks.two_questions.raters import by_gold, by_people, by_scores
from feedback_store import FeedbackStore
from rlhf_core.model.base_model import Base
from rlhf_core.model.loading import load_base
from rlhf_core.reproduction.measures.statistics import difference, share
from rlhf_core.reward.reward_model import RewardModel

BASE, AGAIN = "base", "base again"  # the opponent, and other replies of it, which come to 50%
DONE = "rounds.json"  # what was trained, once it was
ROUNDS, EVENTS = 3, 400


def candidates_of(data: Path) -> list[Candidate]:
    """What each round made, the first one first; a round without a candidate is left out."""
    with FeedbackStore(data / "feedback.db") as store:
        cycles = reversed(store.cycles())
    return [
        Candidate(f"round {number}", cycle.adapter, cycle.state, cycle.reasons)
        for number, cycle in enumerate(cycles, 1)
        if cycle.adapter is not None and (data / "adapters" / cycle.adapter).is_dir()
    ]


def replies_of(
    base: Base,
    out: Path,
    asked: Mapping[Question, Sequence[Asked]],
    made: Sequence[Candidate],
    options: argparse.Namespace,
) -> dict[Question, dict[str, list[Reply]]]:
    """One sampled reply of each policy to each request; sampled once, then kept as a file."""
    path, about = out / "replies.json", {"seed": options.seed, "requests": options.replies}
    if not path.exists():
        for one in made:
            base.attach(one.adapter, out / "data" / "adapters" / one.adapter)
        adapters = {BASE: None, AGAIN: None} | {one.name: one.adapter for one in made}
        found = {
            question: {
                name: sampled(base, those, adapter, seed)
                for seed, (name, adapter) in enumerate(adapters.items())
            }
            for question, those in asked.items()
        }
        write_whole(path, json.dumps(about | {"replies": found}))
    kept = json.loads(path.read_text())
    if about != {name: kept[name] for name in about}:
        raise SystemExit(
            f"{path} has replies to {kept['requests']} requests of seed {kept['seed']}; give "
            f"--replies {kept['requests']} --seed {kept['seed']}, or delete it and {out / 'judge'}"
        )
    return {
        question: {
            name: [(text, ended) for text, ended in replies]
            for name, replies in kept["replies"][question].items()
        }
        for question in asked
    }


def sampled(base: Base, asked: Sequence[Asked], adapter: str | None, seed: int) -> list[Reply]:
    """One reply to each request, as the service samples them."""
    replies = base.respond([one.prompt for one in asked], adapter=adapter, seed=seed)
    return [(reply.text, reply.finished) for reply in replies]


def measure(
    base: Base, out: Path, asked: Mapping[Question, Sequence[Asked]], options: argparse.Namespace
) -> TwoAnswers:
    """Let everybody compare.

    Raises:
        SystemExit: No round made a candidate.
    """
    found = TwoAnswers(candidates_of(out / "data"))
    if not found.candidates:
        raise SystemExit(f"no round of {out} made a candidate; train anew with more --events")
    said = replies_of(base, out, asked, found.candidates, options)
    newest = sorted((out / "data" / "adapters").glob("reward-*"))[-1]
    reward = RewardModel.load(base, newest)
    found.facts["reward_model"] = newest.name
    for question, those in asked.items():
        prompts, replies = [one.prompt for one in those], said[question]
        old, policies = replies[BASE], {n: r for n, r in replies.items() if n != BASE}
        scores = {n: reward.score(prompts, [t for t, _ in r]).tolist() for n, r in replies.items()}
        found.scores[question] = scores
        wins = {
            "people": {
                name: by_people(question, those, new, old, seed=100 * options.seed)
                for name, new in policies.items()
            },
            "reward model": {name: by_scores(scores[name], scores[BASE]) for name in policies},
            "gold": {name: by_gold(question, those, new, old) for name, new in policies.items()},
        }
        compare_rounds(found, question, those, wins)
        for name in policies:
            found.shifts.setdefault(name, {})[question] = difference(
                table(scores[name], those), table(scores[BASE], those)
            )
    found.harms = harm_rates(asked["harmless"], said["harmless"])
    found.without_answer = right_without_answer(asked["helpful"], said["helpful"])
    by_model(found, out, asked, said, options)
    return found


def by_model(
    found: TwoAnswers,
    out: Path,
    asked: Mapping[Question, Sequence[Asked]],
    said: Mapping[Question, Said],
    options: argparse.Namespace,
) -> None:
    """Ask a model about the first pairs of each question, if one was named; add what it said.

    Without one, what a model said in an earlier run counts.
    """
    n = options.judge_pairs
    names = [one.name for one in found.candidates]
    policies = {q: {name: said[q][name] for name in names} for q in BOTH}
    folders = {q: out / "judge" / q for q in BOTH}
    if options.judge_url:
        for q in BOTH:
            keep_pairs(folders[q], asked[q][:n], policies[q], said[q][BASE], seed=options.seed)
        with ThreadPoolExecutor(len(BOTH)) as pool:  # an endpoint may answer two at once
            runs = pool.map(
                lambda q: ask_model(folders[q], q, options.judge_url, options.judge_model),
                BOTH,
            )
        found.facts["judge_runs"] = dict(zip(BOTH, runs, strict=True))
    for q in BOTH:
        there = (folders[q] / "feedback.db").exists()
        found.judge[q] = one = judged(folders[q], policies[q], said[q][BASE], n) if there else None
        for name, wins in one.wins.items() if one else ():
            those = [asked[q][number] for number in wins]
            if wins:
                figures = found.wins.setdefault("model judge", {}).setdefault(name, {})
                figures[q] = share(table(list(wins.values()), those))


def main() -> None:
    """Train unless it was done, compare, write the page, print the table."""
    options = read_options()
    with tempfile.TemporaryDirectory() as scratch:
        out = options.again or options.out or Path(scratch)
        if options.again is None:
            run_rounds(options.seed, out / "data", options)
            kept = {name: vars(options)[name] for name in ("rounds", "events", "seed")}
            write_whole(out / DONE, json.dumps(kept))
        asked = {q: asked_for(q, options.replies, options.seed) for q in BOTH}
        found = measure(load_base("starter"), out, asked, options)
        found.facts |= {
            "trained": json.loads((out / DONE).read_text()),
            "seed": options.seed,
            "requests": options.replies,
            "judge_pairs": options.judge_pairs,
            "load": os.getloadavg()[0],
        }
        result = write_page(found, out)
        print((out / "summary.md").read_text())
    if options.json:
        print(json.dumps({"name": "helpful_harmless"} | result))


def read_options() -> argparse.Namespace:
    """What was asked for."""
    cli = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    where = cli.add_mutually_exclusive_group()
    where.add_argument(
        "--out", type=Path, help="new folder for everything; by default kept nowhere"
    )
    where.add_argument("--again", type=Path, help="the folder of an earlier run: train nothing")
    cli.add_argument("--seed", type=int, default=1)
    cli.add_argument("--rounds", type=int, help=f"to train, {ROUNDS} by default")
    cli.add_argument("--events", type=int, help=f"choices of each round, {EVENTS} by default")
    cli.add_argument("--replies", type=int, default=400, help="requests of each question")
    cli.add_argument("--judge-url", help="a model judge's API with OpenAI's shapes")
    cli.add_argument("--judge-model", help="the model there")
    cli.add_argument("--judge-pairs", type=int, default=60, help="its pairs, a round and question")
    cli.add_argument("--json", action="store_true", help="end with one line of JSON")
    cli.set_defaults(kinds=["choices"], turn=0)  # of `benchmarks.rounds`
    options = cli.parse_args()
    if bool(options.judge_url) != bool(options.judge_model):
        cli.error("--judge-url and --judge-model go together; give both or neither")
    if options.again:
        refuse_again(cli, options)
    elif options.out and (options.out / DONE).exists():
        cli.error(f"{options.out} has the rounds of an earlier run; give --again {options.out}")
    elif options.out and (options.out / "data").exists():
        cli.error(f"{options.out} has rounds that never ended; delete it, or give another folder")
    options.rounds = ROUNDS if options.rounds is None else options.rounds
    options.events = EVENTS if options.events is None else options.events
    return options


def refuse_again(cli: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End the program unless --again has rounds that ended, and nothing to train."""
    if not (options.again / "data" / "feedback.db").exists():
        cli.error(f"{options.again} has no data/feedback.db; give the --out of an earlier run")
    if not (options.again / DONE).exists():
        cli.error(f"{options.again} has no {DONE}: its rounds never ended; train anew with --out")
    if options.rounds is not None or options.events is not None:
        cli.error("--again trains nothing; leave --rounds and --events out")


if __name__ == "__main__":
    main()
