import json
from dataclasses import asdict

import pytest

from chat_app.errors import NotAllowedError
from chat_app.handlers.progress import WhoseValues
from chat_app.handlers.progress.shares import ShareInterval
from feedback_store.records import Alarm, CandidateReply
from feedback_store.store import FeedbackStore
from rlhf_core.cycle.whose.facts import Portrait
from tests.chat_app.fakes import FakeEngine, fake_service
from tests.chat_app.handlers.progress.building import ONE, WON, cycle_of

SECRET = "my address is 12 Secret Street, is it nice?"


@pytest.fixture
def store(tmp_path):
    with FeedbackStore(tmp_path / "feedback.db") as opened:
        yield opened


def page(store, tmp_path, **options):
    return WhoseValues(fake_service(store, FakeEngine(), tmp_path, **options))


def choose(store, raters, *, question=SECRET, kind="person", choices="ab"):
    """Raters choose between the same two replies, one after the other as `choices` says."""
    for number in range(raters):
        rater = store.add_rater(f"{kind}-{number}", kind=kind, consent="1").id
        asked = store.add_message(store.add_conversation(rater).id, "user", question)
        replies = [CandidateReply(text, adapter="policy-000000") for text in ("Yes.", "No.")]
        shown, _ = store.add_candidates(asked.id, replies, rater_id=rater)
        choice = choices[number % len(choices)]
        store.add_choice(shown, rater, choice, idempotency_key=f"{rater}-{question}")


def test_before_there_are_five_raters_visitors_are_told_nothing_and_the_operator_is(
    store, tmp_path
):
    choose(store, 4)
    whose = page(store, tmp_path)
    assert whose.view().portrait == Portrait()
    assert whose.view(operator=True).portrait.raters == 4


def test_visitors_see_how_far_raters_agree_and_not_on_what(store, tmp_path):
    choose(store, 6)
    whose = page(store, tmp_path)
    found = whose.view()
    assert found.portrait.agreement.value == 0.4  # 6 of 15 pairs of raters say the same
    assert "Secret" not in json.dumps(asdict(found))
    (question,) = whose.view(operator=True).portrait.questions
    assert (question.name, question.raters) == (SECRET, 6)


def test_programs_are_told_apart_from_people(store, tmp_path):
    choose(store, 5)
    choose(store, 5, kind="simulated")
    store.let_programs_train(("simulated",))
    portrait = page(store, tmp_path).view().portrait
    assert {part.name: part.raters for part in portrait.groups} == {"person": 5, "simulated": 5}
    assert {rate.name for rate in portrait.between} == {
        "person/person",
        "simulated/simulated",
        "person/simulated",
    }


def test_the_starting_model_was_not_measured(store, tmp_path):
    assert page(store, tmp_path).view().faults is None


def test_what_the_served_version_gets_wrong_is_what_its_round_measured(store, tmp_path):
    metrics = WON | {"probe_asked/skills": 20.0, "probe/rudeness": 0.5, "reward_accuracy": 0.9}
    cycle = cycle_of(store, "promoted", ONE, **metrics, reward_accuracy_low=0.85)
    for kind in ("kl", "backup"):
        store.raise_alarm(Alarm(kind, "rater secret-7 says most"), key="1", cycle_id=cycle.id)
    found = page(store, tmp_path).view().faults
    assert found.round == cycle.id
    assert found.preferred == ShareInterval(0.7, 0.6, 0.8)
    assert found.foretold == ShareInterval(0.9, 0.85, None)
    assert [(probe.kind, probe.share.value, probe.asked) for probe in found.probes] == [
        ("rudeness", 0.5, None),
        ("skills", 0.8, 20),
    ]
    assert found.probes[0].share.low is None and 0.5 < found.probes[1].share.low < 0.8
    assert found.alarms == ("kl",)


def test_what_the_operator_keeps_is_for_no_visitor(store, tmp_path):
    whose = page(store, tmp_path, progress="operator")
    with pytest.raises(NotAllowedError):
        whose.view()
    assert whose.view(operator=True).public is False
    assert page(store, tmp_path, progress="public").view().public is True
