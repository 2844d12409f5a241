"""A whole small cycle with held-out raters: its figures made again from what it left on disk."""

import itertools
import json
import math
import shutil
from collections import Counter, defaultdict
from types import SimpleNamespace

import pytest

from feedback_store import FeedbackStore
from feedback_store.splits import is_held_out_rater
from rlhf_core.cycle import run_cycle
from rlhf_core.cycle.snapshot import take_snapshot
from rlhf_core.errors import DivergenceError
from rlhf_core.gate.win_rate import win_rate
from rlhf_core.model.loading import load_base
from rlhf_core.reward.heads import fit_heads
from rlhf_core.reward.reward_data import prompt_key
from rlhf_core.reward.reward_model import RewardModel
from tests.rlhf_core.conftest import prefer_the_kind_reply as vote

FIRST = [f"first-{number}" for number in range(20)]  # nobody is held out among twenty raters
LATER = [name for name in (f"later-{n}" for n in range(200)) if is_held_out_rater(name)][:6]
STUDENT_95 = 2.015  # one-sided 95% quantile of Student's t, 5 degrees of freedom, from a table


def fill(store, *, votes_each=7):
    """Twenty raters with three votes each, then six held-out ones, who like the rude reply more."""
    for number in range(60):
        vote(store, store.add_rater(FIRST[number % 20], kind="simulated").id, number)
    numbers = itertools.count(50)  # so that ten questions were asked before
    for rater, name in enumerate(LATER):
        assert store.add_rater(name, kind="simulated").held_out
        for count in range(votes_each):
            vote(store, name, next(numbers), "b" if count < rater else "a")
        vote(store, name, 1000 + rater, "tie")
    asked = store.add_message(store.add_conversation(LATER[0]).id, "user", "Name a colour.")
    reply = store.add_message(asked.conversation_id, "assistant", "no", parent_id=asked.id)
    store.add_demonstration(LATER[0], "red", message_id=reply.id, idempotency_key="edit")


def noted(data):
    """The comparisons that a cycle is noted to have used: how many of each use and source."""
    with FeedbackStore(data / "feedback.db") as store:
        uses = [
            (use["used_as"], item["source"], item["label"] == "tie")
            for name in (*FIRST, *LATER)
            for event in store.feedback_of(name)
            for item in event["comparisons"]
            for use in item["uses"]
        ]
    return Counter(uses)


@pytest.fixture(scope="module")
def cycled(tmp_path_factory, model_path, small_cycle, short):
    """The data directory after a cycle, the evidence before it, and the cycle's row."""
    data = tmp_path_factory.mktemp("held-out-raters")
    with FeedbackStore(data / "feedback.db") as store:
        fill(store)
        snapshot = take_snapshot(store, small_cycle)
        comparisons = store.comparisons()
    before = shutil.copytree(data, tmp_path_factory.mktemp("before") / "data")
    row = run_cycle(data, small_cycle, reply=short, model=str(model_path), quantization="none")
    base = load_base(str(model_path), quantization="none", reply=short)
    return SimpleNamespace(
        data=data, before=before, snapshot=snapshot, comparisons=comparisons, row=row, base=base
    )


def test_the_report_says_how_well_the_reward_model_predicts_held_out_raters(cycled):
    reward = RewardModel.load(cycled.base, cycled.data / "adapters" / "reward-000001")
    right = defaultdict(list)
    for c in cycled.comparisons:
        held_out = c.rater_id in LATER and c.split != "held_out"
        if held_out and c.label != "tie" and c.source != "edit":
            a, b = reward.score([c.prompt] * 2, [c.response_a, c.response_b]).tolist()
            right[c.rater_id].append(a > b if c.label == "a" else b > a)
    n, raters = sum(map(len, right.values())), len(right)
    p = sum(map(sum, right.values())) / n
    variance = sum((sum(one) - p * len(one)) ** 2 for one in right.values()) / n**2
    variance *= raters / (raters - 1)
    independent = min(n, p * (1 - p) / max(variance, (0.5 / n) ** 2))
    z2 = STUDENT_95**2
    spread = math.sqrt(z2 * p * (1 - p) / independent + z2 * z2 / (4 * independent**2))
    bounds = [(p + z2 / (2 * independent) + s * spread) / (1 + z2 / independent) for s in (-1, 1)]

    found = cycled.row.metrics
    assert raters == 6 and n >= 20 and 0 < p < 1  # else this would show nothing
    assert found["held_out_raters/votes"] == n and found["held_out_raters/raters"] == 6
    assert found["held_out_raters/reward_accuracy"] == pytest.approx(p, abs=1e-4)
    told = [found[f"held_out_raters/reward_accuracy_{side}"] for side in ("low", "high")]
    assert told == pytest.approx(bounds, abs=0.01)  # the quantile is a series, not a table
    drop = found["reward/held_out_accuracy"] - p
    assert found["held_out_raters/reward_accuracy_drop"] == pytest.approx(drop, abs=2e-4)
    assert found["held_out_raters/reward_accuracy_drop_low"] < drop
    assert found["held_out_raters/reward_accuracy_drop_high"] > drop


def test_the_report_says_how_often_the_candidate_wins_on_what_held_out_raters_asked(
    cycled, small_cycle
):
    known = {json.dumps(p) for p in cycled.snapshot.prompts}
    of_raters = [c for c in cycled.comparisons if c.split == "held_out_raters"]
    asked = list({json.dumps(c.prompt): c.prompt for c in of_raters}.values())
    new = [p for p in asked if json.dumps(p) not in known]
    seed = int(cycled.row.metrics["seed"])
    members = small_cycle.gate.members
    held_out_reward = fit_heads(cycled.base, cycled.snapshot.held_out, members=members)
    cycled.base.attach("candidate", cycled.data / "adapters" / "policy-000001")
    prompts = (new * small_cycle.gate.prompts)[: max(small_cycle.gate.prompts, len(new))]
    scores = []
    for adapter in ("candidate", None):
        replies = cycled.base.respond(prompts, adapter=adapter, seed=seed)
        scores.append(held_out_reward.member_scores(prompts, [r.text for r in replies]))
    known, keys = ~held_out_reward.unseen(prompts), [prompt_key(p) for p in prompts]
    wins = win_rate(scores[0] - scores[1], known, keys, level=0.05)

    found = cycled.row.metrics
    assert len(asked) > len(new) > 2  # some questions had been asked by those who train
    assert found["held_out_raters/prompts"] == len(new)
    assert found["held_out_raters/win_rate"] == pytest.approx(wins.value, abs=1e-3)
    low, high = (found[f"held_out_raters/win_rate_{side}"] for side in ("low", "high"))
    assert low < found["held_out_raters/win_rate"] < high


def test_the_figures_are_in_the_report_and_no_check_asks_for_them(cycled):
    report = json.loads((cycled.data / "cycles" / "000001" / "report.json").read_text())
    metrics = {k: v for k, v in cycled.row.metrics.items() if k.startswith("held_out_raters/")}
    assert len(metrics) == 12
    assert metrics.items() <= report["metrics"].items()
    assert not [check for check in report["checks"] if "rater" in check["name"]]


def test_every_used_comparison_is_noted_with_its_use_and_no_other_is(cycled):
    uses = noted(cycled.data)
    assert uses["held_out_raters", "choice", False] == cycled.row.metrics["held_out_raters/votes"]
    assert {key for key in uses if key[0] == "held_out_raters"} == {
        ("held_out_raters", "choice", False)
    }
    used = [c for c in cycled.comparisons if c.split != "held_out_raters"]
    assert uses.total() == len(used) + uses["held_out_raters", "choice", False]


def test_no_vote_of_a_held_out_rater_trains_the_reward_model(cycled):
    prompts = {json.dumps(c.prompt) for c in cycled.comparisons if c.rater_id in FIRST}
    learned = (*cycled.snapshot.train, *cycled.snapshot.train_votes)
    assert {json.dumps(c.prompt) for c in learned} <= prompts
    numbers = Counter(c.split for c in cycled.comparisons if c.rater_id in FIRST)
    assert len(cycled.snapshot.train) == numbers["train"]


def test_a_refused_cycle_has_used_no_vote(cycled, small_cycle, short, model_path, tmp_path):
    data = shutil.copytree(cycled.before, tmp_path / "data")
    too_many = small_cycle.model_copy(update={"min_comparisons": 1000})
    assert run_cycle(data, too_many).state == "refused"
    assert not noted(data)
    unreadable = small_cycle.model_copy(update={"pretraining_file": str(tmp_path / "none.txt")})
    ptx = unreadable.policy.model_copy(update={"ptx_coef": 1.0})
    settings = unreadable.model_copy(update={"policy": ptx})
    refused = run_cycle(data, settings, reply=short, model=str(model_path), quantization="none")
    assert refused.state == "refused" and "none.txt" in refused.reasons[0]  # after the reward model
    assert not noted(data)


def test_a_cycle_that_failed_before_it_made_an_adapter_has_used_no_vote(
    cycled, small_cycle, short, model_path, tmp_path
):
    data = shutil.copytree(cycled.before, tmp_path / "data")

    def explode(stage, _share, _metrics):
        if stage == "policy":
            raise DivergenceError("the loss is not finite")

    with pytest.raises(DivergenceError):
        model = {"model": str(model_path), "quantization": "none", "reply": short}
        run_cycle(data, small_cycle, progress=explode, **model)
    assert not noted(data)


def test_too_few_votes_of_held_out_raters_give_no_figure_and_are_not_used(
    tmp_path, model_path, small_cycle, short
):
    with FeedbackStore(tmp_path / "feedback.db") as store:
        fill(store, votes_each=2)
    model = {"model": str(model_path), "quantization": "none", "reply": short}
    row = run_cycle(tmp_path, small_cycle, **model)
    found = {k.split("/")[1]: v for k, v in row.metrics.items() if k.startswith("held_out_raters/")}
    assert found["votes"] < found["votes_needed"] == 20
    assert found["raters_needed"] == 5
    assert "reward_accuracy" not in found
    assert not [key for key in noted(tmp_path) if key[0] == "held_out_raters"]
