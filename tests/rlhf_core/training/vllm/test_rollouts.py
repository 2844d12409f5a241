"""Replies of a base that servers of vLLM decode; `test_real.py` and the demo have real ones."""

import threading
from pathlib import Path

import pytest
from safetensors.torch import load_file

from rlhf_core.errors import AdapterError, InvalidInputError, ReplicaLostError
from rlhf_core.records import Sampling
from rlhf_core.training.vllm import rollouts
from rlhf_core.training.vllm.replica import Servers
from tests.chat_app.engine.vllm.stand_in import LOGPROB

SAMPLING = Sampling(1.0, 1.0, 60)


def decode(base, *, adapter="policy", rows=8):
    prompts = [[number % 5 + 1, 2, 3] for number in range(rows)]
    return base.decode(prompts, SAMPLING, adapter=adapter)


def names(server):
    return set(server.adapters)


def test_a_reply_has_the_tokens_the_end_and_the_log_probabilities_that_vllm_gave(remote, servers):
    found = decode(remote)
    (name,) = names(servers[0])
    for reply in found:
        assert reply.text == name and reply.finished
        assert reply.token_ids[-1] in remote.ends
        assert reply.logprobs == (LOGPROB,) * len(reply.token_ids)
    cut = remote.decode([[1, 2]], Sampling(1.0, 1.0, 3), adapter=None)[0]
    assert (cut.text, cut.finished) == ("bas", False)


def test_what_is_sent_is_the_prompt_the_sampling_and_a_seed_for_each_row(remote, servers):
    decode(remote)
    asked = [body for server in servers for body in server.asked]
    assert len({body["seed"] for body in asked}) == len(asked) == 8
    assert all(set(body["stop_token_ids"]) == remote.ends for body in asked)
    assert all(
        (body["temperature"], body["top_p"], body["max_tokens"]) == (1, 1, 60) for body in asked
    )


def test_the_same_seed_sends_the_same_requests(remote, servers, said):
    prompts = [said(f"Count to {number}.") for number in range(4)]
    for _ in range(2):
        remote.respond(prompts, adapter="policy", seed=3)
    for server in servers:
        half = len(server.asked) // 2
        key = [(body["prompt"], body["seed"]) for body in server.asked]
        assert half and sorted(key[:half]) == sorted(key[half:])


def test_rows_are_spread_and_neighbours_stay_together(remote, servers):
    remote.decode([[1], [1], [2], [2]], SAMPLING, adapter=None)
    assert [{tuple(body["prompt"]) for body in server.asked} for server in servers] == [
        {(1,)},
        {(2,)},
    ]


def test_changed_weights_are_loaded_under_a_new_name_and_the_old_ones_dropped(
    remote, servers, disturb
):
    decode(remote)
    first = [names(server) for server in servers]
    disturb(remote, "policy")
    decode(remote)
    for server, before in zip(servers, first, strict=True):
        (old,), (new,) = before, names(server)
        assert old != new
        assert server.calls == [f"load {old}", f"unload {old}", f"load {new}"]
        path = Path(server.adapters[new])
        held = load_file(path / "adapter_model.safetensors")
        ours = {id(w): w for w in remote.weights("policy")}
        assert len(held) == len(ours)
        assert [entry.name for entry in path.parent.iterdir()] == [new]


def test_the_same_weights_are_loaded_once_also_beside_others(remote, servers):
    remote.copy_adapter("policy", "served")
    for adapter in ("policy", "served", None, "policy"):
        decode(remote, adapter=adapter)
    assert all(len(server.calls) == 1 for server in servers), "a copy has the same weights"


def test_adapters_of_the_chat_and_of_other_directories_are_left_alone(
    remote, servers, make_rollouts
):
    servers[0].adapters |= {"policy-000001-abc": "/a", "rollout-there-000001-0-x": "/b"}
    servers[0].adapters |= {"rollout-here-000001-1-x": "/c", "rollout-here-000002-0-x": "/d"}
    theirs = names(servers[0])
    decode(remote)
    remote.elsewhere.close()
    assert names(servers[0]) == theirs


def test_what_a_killed_cycle_left_on_the_servers_is_dropped_by_the_next(
    remote, servers, make_rollouts
):
    decode(remote)
    left = names(servers[0])
    remote.elsewhere = make_rollouts(cycle=2)
    decode(remote)
    assert not left & names(servers[0]) and len(names(servers[0])) == 1


def test_at_the_end_nothing_is_left_on_the_servers_or_on_the_disk(remote, servers, tmp_path):
    decode(remote)
    remote.elsewhere.close()
    assert names(servers[0]) == names(servers[1]) == set()
    assert not (tmp_path / "here-1-0").exists()


def test_what_a_lost_server_had_to_decode_is_decoded_by_the_other(remote, servers, caplog):
    servers[1].breaks_after = 0
    assert len(decode(remote)) == 8
    assert len(servers[0].asked) == 8
    assert f"left out: {servers[1].url} answers 500" in caplog.text


def test_a_server_that_is_back_gets_the_adapter_and_its_share(remote, servers):
    decode(remote)
    servers[1].die()
    decode(remote)
    servers[1].start()
    decode(remote)
    assert names(servers[1]) == names(servers[0])
    assert len(servers[1].asked) == 8


def test_if_no_server_is_left_one_line_says_why_and_what_to_do(remote, servers):
    for server in servers:
        server.die()
    with pytest.raises(ReplicaLostError, match="no server of vLLM is left") as told:
        decode(remote)
    assert all(server.url in str(told.value) for server in servers)
    assert "the next cycle goes on from here" in str(told.value)
    assert "\n" not in str(told.value)


def test_a_server_that_dies_in_the_middle_of_the_replies_is_found(remote, servers, monkeypatch):
    monkeypatch.setattr(rollouts, "WATCH_S", 0.05)
    decode(remote)
    servers[1].seconds = 1000.0
    threading.Timer(0.3, setattr, (servers[1], "hangs", True)).start()
    assert len(decode(remote)) == 8


def test_a_refused_adapter_ends_the_call_with_the_reason_of_the_server(remote, servers):
    servers[0].refuses = True
    with pytest.raises(AdapterError, match=r"rank 32 is greater than 16.*max-lora-rank"):
        decode(remote)


def test_a_refused_prompt_ends_the_call_with_the_reason_of_the_server(remote, servers):
    decode(remote)
    servers[0].refuses = True
    with pytest.raises(InvalidInputError, match="this model cannot do that"):
        decode(remote)


def test_the_servers_are_asked_before_whether_they_could(servers):
    servers[1].window = 100
    where = Servers((servers[0].url, servers[1].url, "http://127.0.0.1:9"))
    well, short, none = where.faults(window=200).values()
    assert well == ""
    assert "max-model-len 200" in short
    assert "does not answer" in none
