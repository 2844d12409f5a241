"""The whole demo through vLLM: it decodes for people, for a cycle, and for its gate.

A real server of vLLM, which `real_server.py` finds or says that there is none; a service with
`--engine vllm`; visitors over HTTP; a cycle with `cycle.policy.generation` vllm; the swap.
"""

import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from chat_app.simulate import Plan, run_simulation
from feedback_store import FeedbackStore
from rlhf_core.training.vllm.replica import Servers
from tests.chat_app.engine.vllm.real_server import RealServer
from tests.chat_app.engine.vllm.real_server import command as vllm_command
from tests.end_to_end.running import Chatter, command, service

log = logging.getLogger(__name__)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]
EVENTS = 300
SMALL = {
    "FEEDBACK_CHAT_CYCLE__MIN_COMPARISONS": "40",
    "FEEDBACK_CHAT_CYCLE__SFT__MIN_STEPS": "200",
    "FEEDBACK_CHAT_CYCLE__REWARD__MEMBERS": "1",
    "FEEDBACK_CHAT_CYCLE__REWARD__MIN_STEPS": "60",
    "FEEDBACK_CHAT_CYCLE__REWARD__REFERENCE_SAMPLES": "64",
    "FEEDBACK_CHAT_CYCLE__POLICY__ITERATIONS": "10",
    "FEEDBACK_CHAT_CYCLE__POLICY__BATCH_SIZE": "32",
    "FEEDBACK_CHAT_CYCLE__POLICY__MINIBATCH_SIZE": "32",
    "FEEDBACK_CHAT_CYCLE__POLICY__GENERATION": "vllm",
    "FEEDBACK_CHAT_CYCLE__GATE__PROMPTS": "80",
    "FEEDBACK_CHAT_CYCLE__GATE__PACKAGED_PROBES": "false",
    "FEEDBACK_CHAT_LIMITS__REPLY_SECONDS": "300",
    "FEEDBACK_CHAT_QUANTIZATION": "none",
    "FEEDBACK_CHAT_ENGINE__KIND": "vllm",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    vllm_command()
    one = RealServer(16, tmp_path_factory.mktemp("vllm") / "log")
    try:
        until(lambda: not Servers((one.url,)).faults(window=320)[one.url], seconds=600)
        yield one
    finally:
        one.die()


@pytest.fixture(scope="module")
def looped(server: RealServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Visitors vote, a cycle runs while somebody chats; the service runs on."""
    data = tmp_path_factory.mktemp("loop") / "data"
    env = SMALL | {"FEEDBACK_CHAT_ENGINE__VLLM_URLS": server.url}
    with service(data, **env) as url:
        with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
            until(lambda: client.get("/readyz").status_code == 200, seconds=120)
        simulated = run_simulation(Plan(url, visitors=12, events=EVENTS, seed=3), show=False)
        chatter = Chatter(url)
        chatter.start()
        cycle = command("cycle", "--data", str(data), "--json", **env)
        log.info("the cycle: %s%s", cycle.stdout, cycle.stderr)
        chatter.enough.set()
        chatter.join()
        yield {"data": data, "env": env, "url": url, "chatter": chatter, "cycle": cycle} | {
            "simulated": simulated
        }


def until(condition: Any, *, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"it did not happen within {seconds} s"
        time.sleep(0.2)


def report_of(data: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((data / "cycles" / "000001" / "report.json").read_text())
    return found


def says(url: str, question: str = "What is the capital of France?") -> tuple[str, str]:
    """The adapter that answers, and its greedy reply."""
    body = {
        "model": "policy",
        "temperature": 0,
        "messages": [{"role": "user", "content": question}],
    }
    with httpx.Client(base_url=url, trust_env=False, timeout=300) as client:
        answer = client.post("/v1/chat/completions", json=body).json()
    return answer["model"], answer["choices"][0]["message"]["content"]


def test_visitors_were_served_and_nobody_was_let_down_by_the_cycle(looped):
    assert looped["simulated"].failed == 0
    assert looped["simulated"].events == EVENTS
    assert looped["chatter"].failures == []
    assert looped["chatter"].adapters


def test_the_cycle_came_to_a_verdict_on_replies_of_vllm(looped):
    assert looped["cycle"].returncode in (0, 3), looped["cycle"].stderr
    metrics = report_of(looped["data"])["metrics"]
    log.info("mismatch %s, seconds %s", metrics["sampling/mismatch_kl"], metrics["seconds"])
    assert 0 < metrics["sampling/mismatch_kl"] < 1e-4, "both compute the same weights in float32"


def test_the_cycle_left_no_adapter_on_the_server(looped, server):
    with httpx.Client(trust_env=False, timeout=60) as http:
        held = [model["id"] for model in http.get(f"{server.url}/v1/models").json()["data"]]
    assert not [name for name in held if name.startswith("rollout-")]
    assert not list((looped["data"] / "cycles").rglob("rollouts-*"))


def test_the_new_adapter_answers_through_vllm_and_can_be_rolled_back(looped):
    data, url = str(looped["data"]), looped["url"]
    with FeedbackStore(looped["data"] / "feedback.db") as store:
        state = store.last_cycle().state
    log.info("the cycle was %s", state)
    if state == "rejected":
        forced = command("promote", "policy-000001", "--force", "--data", data, **looped["env"])
        assert forced.returncode == 0, forced.stderr
    until(lambda: says(url)[0] == "policy-000001", seconds=60)
    new = says(url)
    back = command("rollback", "--data", data, **looped["env"])
    assert back.returncode == 0, back.stderr
    until(lambda: says(url)[0] == "policy-000000", seconds=60)
    log.info("new: %s, old: %s", new, says(url))


def test_a_cycle_without_the_server_says_so_in_one_line(looped, server):
    """It comes last: the server is gone after it."""
    server.die()
    found = command("cycle", "--dry-run", "--data", str(looped["data"]), **looped["env"])
    assert server.url in found.stdout + found.stderr
