import os
import time
from dataclasses import asdict, replace
from typing import Any

import pytest
from pydantic import TypeAdapter

from chat_app.errors import NotAllowedError
from chat_app.handlers.progress import Progress
from chat_app.handlers.progress.shares import ShareInterval
from chat_app.handlers.progress.values import FEWEST
from feedback_store.records import BASE_ADAPTER
from feedback_store.store import FeedbackStore
from tests.chat_app.fakes import FakeEngine, fake_service
from tests.chat_app.handlers.progress.building import (
    ONE,
    THREE,
    TWO,
    WON,
    choose,
    cycle_of,
    failed,
    write_report,
)

SAID = "my address is 12 Secret Street"
TURNS = [{"role": "user", "content": "What is 2 plus 2?"}]


@pytest.fixture
def store(tmp_path):
    with FeedbackStore(tmp_path / "feedback.db") as opened:
        yield opened


def view_of(store, tmp_path, **options):
    return Progress(fake_service(store, FakeEngine(), tmp_path, **options)).view(operator=True)


def last(store, tmp_path):
    return view_of(store, tmp_path).rounds[0]


# Before the first round


def test_before_the_first_round_there_is_version_1_alone(store, tmp_path):
    view = view_of(store, tmp_path)
    assert view.rounds == () and view.version.number == 1 and view.values.people is None
    [rung] = view.ladder
    assert (rung.version, rung.served, rung.against_first) == (
        1,
        True,
        ShareInterval(0.5, 0.5, 0.5),
    )


# Rounds


def test_a_promoted_round_says_what_its_test_found(store, tmp_path):
    cycle_of(store, "promoted", ONE)
    found = last(store, tmp_path)
    assert (found.outcome, found.version, found.before, found.votes) == ("promoted", 2, 1, 120)
    assert found.win_rate == ShareInterval(0.7, 0.6, 0.8) and found.liked
    assert [asdict(probe) for probe in found.probes] == [
        {"kind": "skills", "served": 0.75, "candidate": 0.8}
    ]


def test_rounds_are_newest_first_and_each_is_compared_with_what_was_served_then(store, tmp_path):
    cycle_of(store, "promoted", ONE)
    cycle_of(store, "rejected", TWO)
    cycle_of(store, "promoted", THREE)
    rounds = view_of(store, tmp_path).rounds
    assert [(r.number, r.outcome, r.version, r.before) for r in rounds] == [
        (3, "promoted", 3, 2),
        (2, "rejected", None, 2),
        (1, "promoted", 2, 1),
    ]


@pytest.mark.parametrize("state", ["refused", "failed", "cancelled"])
def test_a_round_that_tested_nothing_says_how_it_ended(store, tmp_path, state):
    cycle_of(store, state)
    found = last(store, tmp_path)
    assert (found.outcome, found.win_rate, found.version) == (state, None, None)


def test_a_rejection_names_its_first_cause_and_whether_people_liked_it(store, tmp_path):
    cycle = cycle_of(store, "rejected", ONE)
    write_report(tmp_path, cycle, checks=failed("probe_invention", "probe_skills"))
    found = last(store, tmp_path)
    assert (found.outcome, found.cause, found.liked) == ("rejected", "probe_invention", True)


def test_a_check_that_no_page_knows_is_another_cause(store, tmp_path):
    write_report(tmp_path, cycle_of(store, "rejected", ONE), checks=failed("<new check>"))
    assert last(store, tmp_path).cause == "other"


def test_a_version_that_people_found_worse_was_rolled_back(store, tmp_path):
    cycle_of(store, "promoted", ONE)
    store.end_trial(store.open_trial().id, "worse", "people preferred the other", by="server")
    view = view_of(store, tmp_path)
    assert (view.rounds[0].outcome, view.version.number) == ("rolled_back", 1)


def test_a_canary_waits_for_people_who_may_reject_it(store, tmp_path):
    cycle_of(store, "passed", ONE, promotion="canary")
    assert last(store, tmp_path).outcome == "canary"
    store.end_trial(store.open_trial().id, "not_shown", "not shown", by="server")
    assert last(store, tmp_path).outcome == "rejected_by_people"


def test_a_round_that_passed_may_wait_for_the_operator(store, tmp_path):
    cycle_of(store, "passed", ONE, promotion="manual")
    assert last(store, tmp_path).outcome == "waiting"


def test_an_operator_may_serve_what_the_tests_rejected(store, tmp_path):
    cycle = cycle_of(store, "rejected", ONE)
    write_report(tmp_path, cycle, checks=failed("win_rate_low"))
    store.serve(ONE, by="operator", force=True)
    found = last(store, tmp_path)
    assert (found.outcome, found.cause, found.version) == ("served_anyway", "win_rate_low", 2)


def test_a_round_whose_report_is_gone_shows_what_the_store_knows(store, tmp_path):
    cycle_of(store, "promoted", ONE)
    found = last(store, tmp_path)
    assert (found.scores, found.samples) == (None, ()) and found.win_rate is not None


def test_scores_come_from_the_report(store, tmp_path):
    plots = {"scores_served": [*range(20)], "scores_candidate": [*range(10, 30)]}
    write_report(tmp_path, cycle_of(store, "promoted", ONE), plots=plots)
    assert last(store, tmp_path).scores.shift > 1


# What people chose


def test_what_people_chose_is_told_once_five_did_and_it_is_decided(store, tmp_path):
    cycle_of(store, "promoted", ONE)
    for number in range(FEWEST - 1):
        choose(store, store.open_trial(), f"rater-{number}", "a", times=3)
    assert last(store, tmp_path).live is None
    choose(store, store.open_trial(), "rater-9", "b", times=3)
    live = last(store, tmp_path).live
    assert (live.choices, live.raters, live.open, live.share) == (15, 5, True, None)
    store.serve(BASE_ADAPTER, by="operator")  # which ends the trial
    live = last(store, tmp_path).live
    assert (live.choices, live.raters, live.open) == (15, 5, False)
    assert live.share.value == 0.8 and live.share.low < 0.8 < live.share.high


def test_of_one_rater_the_first_choices_count(store, tmp_path):
    cycle_of(store, "promoted", ONE)
    for number in range(FEWEST):
        choose(store, store.open_trial(), f"rater-{number}", "a")
    choose(store, store.open_trial(), "busy", "b", times=12)
    live = last(store, tmp_path).live
    assert (live.choices, live.raters) == (FEWEST + 7, FEWEST + 1)


# Nothing private


def test_the_view_quotes_no_visitor_and_names_none(store, tmp_path):
    for number in range(FEWEST):
        rater = store.add_rater(f"rater-{number}", consent="1").id
        conversation = store.add_conversation(rater, title=SAID)
        asked = store.add_message(conversation.id, "user", SAID)
        reply = store.add_message(
            conversation.id, "assistant", SAID, parent_id=asked.id, adapter=BASE_ADAPTER
        )
        store.add_thumb(reply.id, rater, 1, comment=SAID, idempotency_key=rater)
    cycle = cycle_of(store, "rejected", ONE)
    samples = [{"prompt": SAID, "served": SAID, "candidate": SAID}]
    write_report(
        tmp_path, cycle, samples=samples, reasons=[SAID], remarks=[SAID], checks=failed("kl")
    )
    for state in ("failed", "refused"):
        again = store.start_cycle({}, pid=os.getpid())
        store.finish_cycle(again.id, state=state, reasons=[f"cannot read {SAID}"])
    shown = TypeAdapter(Any).dump_json(view_of(store, tmp_path)).decode()
    assert "Secret" not in shown and "secret" not in shown and "rater-" not in shown


def test_samples_are_the_first_packaged_probes_of_each_kind(store, tmp_path):
    samples = [
        {"kind": kind, "prompt": TURNS, "served": f"{kind} {n}", "candidate": "4"}
        for kind in ("flattery", "rudeness", "invention", "instructions")
        for n in (1, 2)
    ]
    write_report(tmp_path, cycle_of(store, "promoted", ONE), probe_samples=samples)
    shown = last(store, tmp_path).samples
    assert [s.served for s in shown] == ["instructions 1", "invention 1", "flattery 1"]
    assert shown[0].prompt[0].content == TURNS[0]["content"] and not shown[0].candidate_right


# The ladder


def test_the_ladder_has_each_version_that_was_served(store, tmp_path):
    for state, name in (("promoted", ONE), ("rejected", TWO), ("promoted", THREE)):
        cycle_of(store, state, name)
        time.sleep(0.002)  # times have milliseconds
    ladder = view_of(store, tmp_path).ladder
    assert [(r.version, r.served) for r in ladder] == [(1, False), (2, False), (3, True)]
    assert ladder[1].against_first.value == pytest.approx(0.7)
    assert ladder[2].against_first.value == pytest.approx(0.8448, abs=1e-3)  # odds of 7/3 twice


def test_a_version_without_a_test_has_no_estimate(store, tmp_path):
    store.register_adapter(ONE, kind="policy", state="published")
    store.serve(ONE, by="operator")
    assert view_of(store, tmp_path).ladder[1].against_first is None


# Who sees it, and how often it is made


@pytest.mark.parametrize("who", ["visitors", "public"])
def test_visitors_see_it_unless_it_is_for_the_operator_alone(store, tmp_path, who):
    shown = Progress(fake_service(store, FakeEngine(), tmp_path, progress=who)).view()
    assert shown.public == (who == "public")
    closed = Progress(fake_service(store, FakeEngine(), tmp_path, progress="operator"))
    with pytest.raises(NotAllowedError, match="nobody else"):
        closed.view()
    assert closed.view(operator=True).rounds == ()


def test_the_view_is_made_once_for_all_who_ask_within_seconds(store, tmp_path):
    clock = [0.0]
    service = fake_service(store, FakeEngine(), tmp_path)
    progress = Progress(service, now=lambda: clock[0])
    first = progress.view()
    cycle_of(store, "promoted", ONE, **WON)
    clock[0] = 9.9
    assert progress.view().rounds is first.rounds
    clock[0] = 10.0
    assert progress.view().rounds[0] == replace(progress.view().rounds[0], number=1)
