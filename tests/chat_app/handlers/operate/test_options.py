"""Settings in force: the value of each, and where that comes from; secrets stay hidden."""

from pathlib import Path

import pytest

from chat_app.handlers.operate.options import options_of
from chat_app.profile import with_profile
from chat_app.settings import load_settings

SECRET = "a-token-that-nobody-guesses"


def test_each_source_is_named_and_the_strongest_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.toml").write_text(
        'candidates_every = 4\nport = 1\n[cycle.policy]\niterations = 7\n[alerts]\ncommand = "x"\n'
    )
    monkeypatch.setenv("FEEDBACK_CHAT_CYCLE__GATE__MIN_PROMPTS", "5")
    monkeypatch.setenv("FEEDBACK_CHAT_CYCLE__POLICY__ITERATIONS", "8")
    monkeypatch.setenv("FEEDBACK_CHAT_OPERATOR_TOKEN", SECRET)
    settings = with_profile(load_settings(data=tmp_path, port=8123))
    found = {one.name: one for one in options_of(settings)}
    told = {name: (found[name].value, found[name].source) for name in found}
    assert told["port"] == ("8123", "flag")
    assert told["candidates_every"] == ("4", "file")
    assert told["cycle.policy.iterations"] == ("8", "environment")
    assert told["cycle.gate.min_prompts"] == ("5", "environment")
    assert told["alerts.command"] == ("x", "file")
    assert told["limits.messages"] == ("200", "default")
    assert told["quantization"] == ("nf4", "profile")
    assert found["reply.tokens"].meaning


def test_a_secret_is_hidden_and_whether_it_is_set_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEEDBACK_CHAT_OPERATOR_TOKEN", SECRET)
    found = {one.name: one for one in options_of(load_settings(data=tmp_path))}
    token, webhook = found["operator_token"], found["alerts.webhook"]
    assert (token.value, token.secret, token.is_set) == (None, True, True)
    assert (webhook.value, webhook.secret, webhook.is_set) == (None, True, False)
    assert SECRET not in str(found)
