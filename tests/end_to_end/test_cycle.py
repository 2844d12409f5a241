"""The whole loop on a small profile: a real service, visitors over HTTP, a cycle, the swap."""

import json
import time
from collections.abc import Iterator

import httpx
import pytest

from chat_app.simulate import Plan, run_simulation
from feedback_store import FeedbackStore
from rlhf_core.model.loading import load_base
from rlhf_core.worlds.starter.measure import compare, held_out_requests
from tests.end_to_end.running import Chatter, command, service

# the timeout is against hanging for ever; a whole cycle beside a server may take minutes
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
SMALL = {
    "FEEDBACK_CHAT_CYCLE__MIN_COMPARISONS": "60",
    "FEEDBACK_CHAT_CYCLE__SFT__MIN_STEPS": "200",
    "FEEDBACK_CHAT_CYCLE__REWARD__MEMBERS": "1",
    "FEEDBACK_CHAT_CYCLE__REWARD__MIN_STEPS": "60",
    "FEEDBACK_CHAT_CYCLE__POLICY__ITERATIONS": "12",
    "FEEDBACK_CHAT_CYCLE__POLICY__BATCH_SIZE": "32",
    "FEEDBACK_CHAT_CYCLE__POLICY__MINIBATCH_SIZE": "32",
    "FEEDBACK_CHAT_CYCLE__GATE__PROMPTS": "80",
}
# What the data directory holds of a cycle that trained, as it is promised; see test_contract.py.
CYCLE_FILES = {"config.json", "metrics.jsonl", "report.json"}
ADAPTER_FILES = {
    "policy": {"README.md", "adapter_config.json", "adapter_model.safetensors", "manifest.json"},
    "reward": {"README.md", "heads.safetensors", "manifest.json", "reward.json"}
    | {"m0/adapter_config.json", "m0/adapter_model.safetensors"},
}


@pytest.fixture(scope="module")
def looped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, object]]:
    """Visitors vote, a cycle runs while somebody chats; everything that happened."""
    data = tmp_path_factory.mktemp("loop") / "data"
    with service(data, **SMALL) as url:
        simulated = run_simulation(Plan(url, visitors=30, events=800, seed=3), show=False)
        chatter = Chatter(url)
        chatter.start()
        cycle = command("cycle", "--data", str(data), "--json", **SMALL)
        published = time.monotonic()
        while "policy-000001" not in chatter.adapters[-1:] and time.monotonic() < published + 20:
            time.sleep(0.05)
        swap_s = time.monotonic() - published
        chatter.enough.set()
        chatter.join()
        yield {
            "data": data,
            "simulated": simulated,
            "cycle": cycle,
            "chatter": chatter,
            "swap_s": swap_s,
        }


def test_every_visitor_was_served_and_every_event_stored(looped):
    assert looped["simulated"].failed == 0
    assert looped["simulated"].events == 800


def test_the_cycle_promotes_a_better_adapter(looped):
    assert looped["cycle"].returncode == 0, looped["cycle"].stderr
    facts = json.loads(looped["cycle"].stdout)
    assert (facts["state"], facts["adapter"]) == ("promoted", "policy-000001")
    assert facts["metrics"]["win_rate_low"] > 0.5
    stages = [facts["metrics"][f"seconds/{s}"] for s in ("sft", "reward", "policy", "evaluate")]
    assert all(stages) and sum(stages) <= facts["metrics"]["seconds"]


def test_nobody_who_chatted_meanwhile_was_let_down(looped):
    assert looped["chatter"].failures == []
    seen = looped["chatter"].adapters
    assert set(seen) == {"policy-000000", "policy-000001"}
    assert seen == sorted(seen)  # never back to the old one


def test_new_replies_come_from_the_new_adapter_within_two_seconds(looped):
    assert looped["swap_s"] < 2 + 1  # a reply may be under way on a busy machine


def test_the_exact_judge_finds_the_new_adapter_better_on_unseen_facts(looped):
    base = load_base("starter")
    base.attach("candidate", looped["data"] / "adapters" / "policy-000001")
    gold = compare(base, candidate="candidate", served=None, n=200)
    assert gold.low > 0.5
    assert gold.candidate.truth > 1.3 * gold.served.truth
    assert gold.candidate.rude < 0.7 * gold.served.rude


def test_the_server_says_after_the_swap_what_a_fresh_start_would_say(looped):
    base = load_base("starter")
    base.attach("fresh", looped["data"] / "adapters" / "policy-000001")
    prompts = [[{"role": "user", "content": r.text}] for r in held_out_requests(20, seed=1)]
    fresh = [base.respond([p], adapter="fresh", temperature=0)[0].text for p in prompts]
    with httpx.Client(base_url=looped["chatter"].url, timeout=60, trust_env=False) as client:
        bodies = [{"model": "policy", "messages": p, "temperature": 0} for p in prompts]
        answers = [client.post("/v1/chat/completions", json=body).json() for body in bodies]
    assert [answer["choices"][0]["message"]["content"] for answer in answers] == fresh
    assert {answer["model"] for answer in answers} == {"policy-000001"}


def test_everything_of_the_cycle_is_in_its_directory(looped):
    directory = looped["data"] / "cycles" / "000001"
    assert {path.name for path in directory.iterdir()} == CYCLE_FILES
    for kind, files in ADAPTER_FILES.items():
        adapter = looped["data"] / "adapters" / f"{kind}-000001"
        found = {str(path.relative_to(adapter)) for path in adapter.rglob("*") if path.is_file()}
        assert found == files
    assert json.loads((directory / "config.json").read_text())["reward"]["members"] == 1
    report = json.loads((directory / "report.json").read_text())
    assert report["promote"] and all(check["passed"] for check in report["checks"])
    assert (directory / "metrics.jsonl").read_text().count('"stage": "policy"') == 12


def test_another_cycle_without_new_votes_is_refused_and_changes_nothing(looped):
    again = command("cycle", "--data", str(looped["data"]), **SMALL)
    assert again.returncode == 3
    assert "nothing new" in again.stderr
    with FeedbackStore(looped["data"] / "feedback.db") as store:
        assert store.serving().adapter == "policy-000001"
        assert store.last_cycle().state == "refused"


def test_the_promotion_can_be_rolled_back(looped):
    data = str(looped["data"])
    assert command("adapters", "rollback", "--data", data).returncode == 0
    status = json.loads(command("status", "--data", data, "--json").stdout)
    assert (status["serving"], status["previous"]) == ("policy-000000", "policy-000001")
