"""Options come from flags, the environment, the file and the defaults, in this order."""

from pathlib import Path
from typing import Any

import pytest

from chat_app.commands.adapters import open_store
from chat_app.cycles.scheduler import CycleProcess
from chat_app.errors import InvalidRequestError
from chat_app.settings import load_settings
from feedback_store.errors import StoreOpenError
from feedback_store.store import FeedbackStore


def test_flags_beat_the_environment_which_beats_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.toml").write_text(
        "port = 1\nhost = '0.0.0.0'\nmodel = 'file'\n[cycle.gate]\nprompts = 50\n"
    )
    monkeypatch.setenv("FEEDBACK_CHAT_PORT", "2")
    monkeypatch.setenv("FEEDBACK_CHAT_MODEL", "environment")
    monkeypatch.setenv("FEEDBACK_CHAT_CYCLE__MIN_COMPARISONS", "7")
    settings = load_settings(data=tmp_path, port=3, host=None)
    assert (settings.port, settings.model, settings.host) == (3, "environment", "0.0.0.0")
    assert (settings.cycle.min_comparisons, settings.cycle.gate.prompts) == (7, 50)
    assert settings.quantization == "auto"


def test_messages_are_markdown_unless_the_starter_writes_them_or_the_operator_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shown(model: str) -> bool:
        return load_settings(data=tmp_path, model=model).shows_markdown

    assert not shown("starter") and shown("smollm2") and shown("someone/model")
    monkeypatch.setenv("FEEDBACK_CHAT_MARKDOWN", "true")
    assert shown("starter")
    monkeypatch.setenv("FEEDBACK_CHAT_MARKDOWN", "false")
    assert not shown("smollm2")


def test_every_command_opens_the_store_on_an_old_sqlite_only_if_it_is_told_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FeedbackStore(tmp_path / "feedback.db", allow_old_sqlite=True).close()
    monkeypatch.setattr("feedback_store.sqlite.database.OLDEST_SAFE_SQLITE", (99, 0, 0))
    with pytest.raises(StoreOpenError, match="allow_old_sqlite"):
        open_store(load_settings(data=tmp_path))
    monkeypatch.setenv("FEEDBACK_CHAT_ALLOW_OLD_SQLITE", "true")
    open_store(load_settings(data=tmp_path)).close()


def test_another_file_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "other.toml"
    file.write_text("port = 5\n")
    assert load_settings(file).port == 5
    monkeypatch.setenv("FEEDBACK_CHAT_CONFIG", str(file))
    assert load_settings().port == 5


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("prot = 1", "'prot'"),
        ("[engine]\nrows = 0", "'engine.rows'"),
        ("[cycle.policy]\nspeed = 3", "'cycle.policy.speed'"),
    ],
)
def test_unknown_names_and_values_out_of_range_are_named(
    tmp_path: Path, text: str, says: str
) -> None:
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(InvalidRequestError, match=says):
        load_settings(data=tmp_path)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("FEEDBACK_CHAT_PROT", "FEEDBACK_CHAT_PROT names no option.* mean FEEDBACK_CHAT_PORT"),
        ("FEEDBACK_CHAT_CYCEL__SEED", "FEEDBACK_CHAT_CYCEL__SEED .* mean FEEDBACK_CHAT_CYCLE"),
        ("feedback_chat_prot", "feedback_chat_prot names no option"),
        ("FEEDBACK_CHAT_CYCLE__SED", "'cycle.sed'"),
        ("FEEDBACK_CHAT_XYZZY", "names no option; unset it"),
    ],
)
def test_a_misspelled_environment_variable_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, says: str
) -> None:
    monkeypatch.setenv(name, "80")
    with pytest.raises(InvalidRequestError, match=says):
        load_settings(data=tmp_path)


def test_variables_that_are_no_options_but_ours_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "c.toml").write_text("port = 5\n")
    monkeypatch.setenv("FEEDBACK_CHAT_CONFIG", str(tmp_path / "c.toml"))
    monkeypatch.setenv("FEEDBACK_CHAT_DEBUG", "1")
    monkeypatch.setenv("feedback_chat_host", "0.0.0.0")
    monkeypatch.setenv("FEEDBACK_CHATTER", "another program's")
    settings = load_settings(data=tmp_path)
    assert (settings.port, settings.host) == (5, "0.0.0.0")


def test_a_child_process_gets_no_variable_that_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.toml").write_text("port = 5\n")
    settings = load_settings(data=tmp_path, model="tiny")
    with FeedbackStore(settings.database, allow_old_sqlite=True) as store:
        for name, value in CycleProcess(store, settings)._environment().items():
            monkeypatch.setenv(name, value)
    assert load_settings(data=tmp_path).model == "tiny"


def test_the_operators_token_never_shows_in_a_printout() -> None:
    assert "hunter2" not in repr(load_settings(operator_token="hunter2-hunter2-hunter2"))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"webhook": "hooks.example.org/s3cret"}, "alerts.webhook.*such as https://"),
        ({"webhook": "file:///etc/s3cret"}, "alerts.webhook"),
        ({"webhook": "https://me:s3cret@example.org/"}, "alerts.webhook"),
        ({"webhook": "https://example.org/a s3cret"}, "alerts.webhook"),
        ({"command": "notify 'me"}, "alerts.command.*No closing quotation; write it as in a shell"),
        ({"command": " "}, "alerts.command.*name a program"),
        ({"seconds": 0}, "alerts.seconds"),
    ],
)
def test_an_alert_that_could_reach_nobody_is_refused_without_its_secret(
    given: dict[str, object], says: str
) -> None:
    with pytest.raises(InvalidRequestError, match=says) as refused:
        load_settings(alerts=given)
    assert "s3cret" not in str(refused.value)


def test_a_webhook_is_an_address_with_a_path_and_a_query() -> None:
    for address in ("http://localhost:8065", "https://hooks.slack.com/services/T0/B0/x?a=b"):
        webhook = load_settings(alerts={"webhook": address}).alerts.webhook
        assert webhook is not None and webhook.get_secret_value() == address


def test_the_starter_is_the_starter_whatever_the_working_directory_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "starter").mkdir()
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_settings(model="starter").model_name == "starter"
    assert load_settings(model="other").model_name == str(tmp_path / "other")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"operator_token": "short-secret"}, "use 16 characters or more"),
        ({"operator_token": f"fc-{'x' * 43}"}, "has the form of a key"),
        ({"user_header": "X-Forwarded-User"}, "name the addresses of your proxies"),
        ({"user_header": "Authorization", "proxies": ("127.0.0.1",)}, "has another use"),
        ({"user_header": "bad header", "proxies": ("127.0.0.1",)}, "letters, digits and hyphens"),
        ({"proxies": ("*",)}, "'*' is no address or network, such as 127.0.0.1"),
        ({"proxies": "127.0.0.1, localhost"}, "'localhost' is no address or network"),
        ({"proxies": ("172.18.0.1/16",)}, "is no address or network"),
        ({"user_header": "CF-Connecting-IP", "proxies": ("127.0.0.1",)}, "has another use"),
        ({"proxies": ("0.0.0.0/0",)}, "'0.0.0.0/0' is everybody"),
        ({"proxies": '["127.0.0.1"'}, 'write ["one", "another"], or one,another'),
        ({"hosts": ("chat.example.org:9110",)}, "leave out scheme, port and path"),
        ({"hosts": ("http://chat.example.org",)}, "leave out scheme, port and path"),
        ({"root_path": "chat"}, "begin with /"),
        ({"access": "closed"}, "'auto', 'open' or 'keys'"),
    ],
)
def test_what_would_let_in_strangers_is_refused_in_one_line(
    given: dict[str, Any], says: str
) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        load_settings(**given)
    said = str(refused.value)
    assert says in said and "\n" not in said
    assert "short-secret" not in said and "xxx" not in said, "a secret is not shown"


@pytest.mark.parametrize("said", ["10.0.0.1, 172.16.0.0/12", '["10.0.0.1", "172.16.0.0/12"]'])
def test_a_variable_has_a_list_with_commas_or_as_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    monkeypatch.setenv("FEEDBACK_CHAT_PROXIES", said)
    monkeypatch.setenv("FEEDBACK_CHAT_HOSTS", "chat.example.org")
    settings = load_settings(data=tmp_path)
    assert settings.proxies == ("10.0.0.1", "172.16.0.0/12")
    assert settings.hosts == ("chat.example.org",)


@pytest.mark.parametrize("origin", ["*", "app.example.org", "https://a.org/path", "https://a.org/"])
def test_an_origin_is_written_whole_and_without_a_path(origin: str) -> None:
    with pytest.raises(ValueError, match="is no origin"):
        load_settings(origins=(origin,))
