"""A cycle whose replies stand-ins of vLLM decode."""

import json

import pytest

from feedback_store import BASE_ADAPTER, FeedbackStore
from rlhf_core.cycle import run_cycle
from rlhf_core.errors import InvalidInputError, ReplicaLostError
from rlhf_core.training.vllm.replica import Servers
from tests.chat_app.engine.vllm.stand_in import standing_in


@pytest.fixture
def servers(tokenizer):
    with standing_in(tokenizer.get_vocab(), 2) as both:
        yield both


@pytest.fixture
def cycle(servers, data, model_path, small_cycle, short):
    """Runs a cycle of seconds, which has everything: all stages and a verdict."""
    where = Servers(tuple(server.url for server in servers))

    def run(generation="vllm", **more):
        policy = small_cycle.policy.model_copy(update={"generation": generation})
        settings = small_cycle.model_copy(update={"policy": policy})
        base = {"model": str(model_path), "quantization": "none", "reply": short}
        return run_cycle(data, settings, **{"servers": where} | base | more)

    return run


@pytest.mark.slow
def test_all_replies_of_a_cycle_come_from_the_servers_and_nothing_is_left_there(
    cycle, servers, data, small_cycle
):
    row = cycle()
    assert row.state in ("promoted", "rejected")
    asked = sum(len(server.asked) for server in servers)
    policy = small_cycle.policy
    assert asked >= policy.iterations * policy.batch_size + 2 * small_cycle.gate.prompts
    assert row.metrics["sampling/mismatch_kl"] > 0
    for server in servers:
        calls = [call.split() for call in server.calls if call != "unload none"]
        loaded, dropped = ([n for kind, n in calls if kind == k] for k in ("load", "unload"))
        assert len(set(loaded)) == len(loaded) > policy.iterations, "never twice under a name"
        assert sorted(loaded) == sorted(dropped) and not server.adapters
    assert {entry.name for entry in (data / "cycles" / "000001").iterdir()} == {
        "config.json",
        "metrics.jsonl",
        "report.json",
    }
    first = json.loads((data / "cycles/000001/config.json").read_text())
    assert first["policy"]["generation"] == "vllm" and servers[0].url not in json.dumps(first)


@pytest.mark.slow
@pytest.mark.parametrize("then", ["vllm", "local"])
def test_if_the_servers_die_in_the_middle_the_cycle_fails_in_one_line_and_can_go_on(
    cycle, servers, data, then
):
    def kill(stage, done, _metrics):
        if stage == "policy" and done > 0:
            for server in servers:
                server.die()

    with pytest.raises(ReplicaLostError, match="no server of vLLM is left"):
        cycle(progress=kill)
    with FeedbackStore(data / "feedback.db") as store:
        [reason] = store.last_cycle().reasons
        assert servers[0].url in reason and "\n" not in reason
        assert store.serving().adapter == BASE_ADAPTER
    if then == "vllm":
        for server in servers:
            server.start()
    row = cycle(then)
    assert row.state in ("promoted", "rejected")
    assert row.metrics["resumed_cycle"] == 1


def test_without_a_server_that_could_it_fails_before_it_trains(cycle, servers, data):
    servers[0].die()
    servers[1].window = 16
    with pytest.raises(ReplicaLostError, match="start it with --max-model-len") as told:
        cycle()
    assert f"{servers[0].url} does not answer" in str(told.value)
    assert "generation to local" in str(told.value)
    assert not (data / "cycles" / "000001" / "metrics.jsonl").exists()


def test_if_nobody_says_where_the_servers_are_nothing_is_begun(cycle, data):
    with pytest.raises(InvalidInputError, match=r"engine\.vllm_urls"):
        cycle(servers=None)
    with FeedbackStore(data / "feedback.db") as store:
        assert store.last_cycle() is None
