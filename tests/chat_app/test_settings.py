"""Options come from flags, the environment, the file and the defaults, in this order."""

from pathlib import Path

import pytest

from chat_app.cli_data import open_store
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
    assert settings.quantization == "nf4"


def test_every_command_opens_the_store_on_an_old_sqlite_only_if_it_is_told_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FeedbackStore(tmp_path / "feedback.db", allow_old_sqlite=True).close()
    monkeypatch.setattr("feedback_store.database.OLDEST_SAFE_SQLITE", (99, 0, 0))
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


def test_the_operators_token_never_shows_in_a_printout() -> None:
    assert "hunter2" not in repr(load_settings(operator_token="hunter2"))
