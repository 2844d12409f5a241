from pathlib import Path

import pytest

from chat_app.errors import InvalidRequestError
from chat_app.profile import with_profile
from chat_app.settings import load_settings
from rlhf_core.errors import ModelError


def test_the_starter_keeps_the_defaults_and_its_packed_weights(tmp_path: Path) -> None:
    settings = load_settings(data=tmp_path)
    used = with_profile(settings)
    assert used.cycle.data.programs == ("simulated",), "who tries it out votes beside visitors"
    data = used.cycle.data.model_copy(update=settings.cycle.data.model_dump())
    cycle = used.cycle.model_copy(update={"data": data})
    expected = {"profile": "starter", "quantization": "nf4"}
    assert used.model_copy(update={"cycle": cycle}) == settings.model_copy(update=expected)


def test_another_model_gets_what_fits_it_and_keeps_what_was_set(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.toml").write_text("[reply]\ntokens = 30\n[cycle.reward]\nmembers = 3\n")
    monkeypatch.setenv("FEEDBACK_CHAT_REPLY__TOP_P", "0.7")
    used = with_profile(load_settings(data=tmp_path, model=str(tiny_model), profile="cpu"))
    assert (used.quantization, used.cycle.threads) == ("none", 1)
    assert (used.reply.tokens, used.reply.top_p, used.cycle.reward.members) == (30, 0.7, 3)
    assert used.reply.temperature != load_settings(data=tmp_path).reply.temperature
    assert used.cycle.reward.corrupted_share == 0


def test_the_starters_profile_can_be_asked_for_with_any_model(
    tmp_path: Path, tiny_model: Path
) -> None:
    given = load_settings(data=tmp_path, model=str(tiny_model), profile="starter")
    assert with_profile(given).cycle == given.cycle


def test_what_was_set_and_what_the_profile_says_have_to_fit(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEEDBACK_CHAT_CYCLE__POLICY__BATCH_SIZE", "24")  # not of the starter's 64
    used = with_profile(load_settings(data=tmp_path, model=str(tiny_model), profile="cpu"))
    assert (used.cycle.policy.batch_size, used.cycle.policy.minibatch_size) == (24, 8)
    monkeypatch.setenv("FEEDBACK_CHAT_CYCLE__POLICY__MINIBATCH_SIZE", "64")
    monkeypatch.setenv("FEEDBACK_CHAT_CYCLE__POLICY__BATCH_SIZE", "128")
    with_profile(load_settings(data=tmp_path, model=str(tiny_model), profile="cpu"))
    monkeypatch.delenv("FEEDBACK_CHAT_CYCLE__POLICY__BATCH_SIZE")
    given = load_settings(data=tmp_path, model=str(tiny_model), profile="cpu")
    with pytest.raises(InvalidRequestError, match="must be a multiple of minibatch_size 64"):
        with_profile(given)


def test_the_starters_options_have_to_fit_each_other(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[cycle.policy]\nbatch_size = 24\n")
    with pytest.raises(InvalidRequestError, match=r"batch_size 24 must be .* profile starter"):
        with_profile(load_settings(data=tmp_path))


def test_a_model_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nothing"):
        with_profile(load_settings(data=tmp_path, model=str(tmp_path / "nothing")))


def test_a_starter_whose_operator_names_a_judge_lets_nothing_decide_but_people(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEEDBACK_CHAT_CYCLE__DATA__PROGRAMS", '["judge"]')
    data = with_profile(load_settings(data=tmp_path, model="starter")).cycle.data
    assert (data.programs, data.programs_share, data.programs_decide) == (("judge",), 0.5, False)
