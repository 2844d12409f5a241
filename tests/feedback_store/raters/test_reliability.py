import dataclasses
import statistics
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedback_store.raters.agreement import PairVote, agreement
from feedback_store.raters.behaviour import Behaviour
from feedback_store.raters.reliability import QualitySettings, assess
from tests.feedback_store.raters.test_agreement import crowd, judged

NOTHING = {"gold_right": 0, "gold_total": 0, "left": 0, "sided": 0, "fast": 0, "timed": 0}


def did(rater, *, quarantined=False, **counts):
    return Behaviour(rater_id=rater, votes=50, quarantined=quarantined, **(NOTHING | counts))


def assessed(evidence, found=()):
    return {report.rater_id: report for report in assess(evidence, list(found))}


def of_crowd(skills, **options):
    return assessed([did(rater) for rater in skills], crowd(skills, **options))


def mean_reliability(reports, raters):
    return statistics.fmean(reports[rater].reliability for rater in raters)


HONEST = {f"honest-{i:02}": 0.75 for i in range(20)}


def test_without_overlap_everybody_counts_in_full():
    alone = judged({"ann": [1, -1] * 30, "bob": [None] * 60 + [1, -1] * 30})
    reports = assessed([did("ann"), did("bob"), did("cleo")], alone)
    for report in reports.values():
        assert (report.reliability, report.quarantine) == (1.0, None)
        assert (report.shared, report.agreement) == (0, None)


def test_a_few_shared_judgements_hardly_count():
    contrary = {f"rater-{i}": [1] * 3 for i in range(5)} | {"odd": [-1] * 3}
    reports = assessed([did(rater) for rater in contrary], judged(contrary))
    assert reports["odd"].quarantine is None
    assert 0.2 < reports["odd"].reliability < 1
    assert reports["rater-0"].reliability == 1.0


@pytest.mark.parametrize("shared", range(1, 10))
def test_doubt_grows_with_the_number_of_shared_judgements(shared):
    """One in ten fewer for each, at most, until there are enough for a quarantine."""
    contrary = {f"rater-{i}": [1] * shared for i in range(5)} | {"odd": [-1] * shared}
    reliability = assessed([did(rater) for rater in contrary], judged(contrary))["odd"].reliability
    assert 1 - shared / 10 <= reliability + 1e-9
    assert reliability < 1


def test_failed_gold_questions_count_at_once():
    found = judged({"ann": [1, 1], "bob": [1, 1]})
    reports = assessed([did("ann"), did("bob", gold_right=0, gold_total=4)], found)
    assert reports["bob"].reliability < 0.05
    assert reports["ann"].reliability == 1


def test_a_contrary_rater_goes_to_zero_and_is_quarantined():
    reports = of_crowd(HONEST | {"contrary": 0.1}, subjects=400)
    assert reports["contrary"].reliability == 0
    assert "contradicts" in reports["contrary"].quarantine
    assert reports["contrary"].agreement < 0.4
    assert all(reports[rater].quarantine is None for rater in HONEST)
    assert mean_reliability(reports, HONEST) > 0.85


def test_a_coin_loses_its_weight_but_is_not_accused():
    reports = of_crowd(HONEST | {"coin": 0.5}, subjects=1500)
    assert reports["coin"].reliability < 0.35
    assert reports["coin"].quarantine is None


def test_more_evidence_brings_reliability_closer_to_what_it_is():
    contrary = [
        of_crowd(HONEST | {"contrary": 0.1}, subjects=n)["contrary"].reliability
        for n in (10, 40, 200)
    ]
    assert contrary[0] > contrary[1] > contrary[2] == 0


def test_a_loud_contrary_rater_does_not_drag_others_down():
    skills = {f"honest-{i:02}": 0.8 for i in range(15)}
    found = crowd(skills, subjects=300, each=2)
    subjects = sorted({vote.subject for vote in found})
    # he says the opposite of the first who judged, on everything
    first = {vote.subject: vote.verdict for vote in reversed(found)}
    loud = [found[0]._replace(subject=s, rater_id="loud", verdict=-first[s]) for s in subjects]
    reports = assessed([did(rater) for rater in [*skills, "loud"]], [*found, *loud])
    assert reports["loud"].reliability == 0
    assert reports["loud"].quarantine is not None
    assert all(reports[rater].quarantine is None for rater in skills)
    assert mean_reliability(reports, skills) > 0.85


def rankings(rater, numbers, *, reverse=False):
    """A rater's rankings of nine replies, each to a question of its own: all 36 pairs."""
    verdict = -1 if reverse else 1
    return [
        PairVote((f"prompt {number}", f"{a}", f"{b}"), rater, verdict, 1 / 36, number + 1)
        for number in numbers
        for a, b in combinations(range(9), 2)
    ]


def test_a_ranking_of_nine_is_one_judgement_and_not_36():
    honest = [vote for name in ("ann", "bob", "cleo") for vote in rankings(name, range(20))]
    raters = [did(rater) for rater in ("ann", "bob", "cleo", "dan")]
    once = assessed(raters, [*honest, *rankings("dan", [0], reverse=True)])["dan"]
    assert (once.shared, once.quarantine) == (1, None)
    assert once.reliability > 0.9, "one opinion to the contrary says little"
    often = assessed(raters, [*honest, *rankings("dan", range(20), reverse=True)])["dan"]
    assert often.shared == 20 and "on 20 shared judgements" in often.quarantine
    assert often.reliability == 0


def test_a_ranking_of_which_others_judged_one_pair_says_as_much_as_a_choice():
    pair = ("0", "1")
    honest = [
        PairVote((f"prompt {n}", *pair), rater, 1) for rater in ("ann", "bob") for n in range(100)
    ]
    ranked = [
        vote._replace(verdict=-1 if vote.subject[1:] == pair else 1)
        for vote in rankings("dan", range(100))
    ]
    raters = [did(rater) for rater in ("ann", "bob", "dan")]
    found = assessed(raters, [*honest, *ranked])["dan"]
    assert found.shared == 100 and "on 100 shared judgements" in found.quarantine
    chosen = [PairVote((f"prompt {n}", *pair), "dan", -1) for n in range(100)]
    assert assessed(raters, [*honest, *chosen])["dan"] == found


def test_the_pairs_of_one_ranking_make_agreement_no_surer():
    raters, numbers = ("ann", "bob", "cleo"), range(24)
    pairs = [
        PairVote((f"prompt {n}", "a", "b"), rater, 1 if rater != "cleo" or n % 3 else -1)
        for rater in raters
        for n in numbers
    ]
    ranked = [
        v._replace(verdict=v.verdict * (-1 if rater == "cleo" and n % 3 == 0 else 1))
        for rater in raters
        for n in numbers
        for v in rankings(rater, [n])
    ]
    one, many = agreement(pairs), agreement(ranked)
    assert many.alpha == pytest.approx(one.alpha, abs=0.02)
    assert many.high - many.low == pytest.approx(one.high - one.low, rel=0.05)


def test_judging_alone_buys_nobody_any_trust():
    honest = [f"honest-{i}" for i in range(10)]
    said = [
        PairVote(("prompt", f"{i:03}", "shared"), rater, verdict)
        for i in range(120)
        for rater, verdict in ((honest[i % 10], 1), ("loud", -1))
    ]
    alone = [PairVote(("prompt", f"{i:03}", "alone"), "loud", 1) for i in range(400)]
    reports = assessed([did(rater) for rater in [*honest, "loud"]], said + alone)
    assert reports["loud"].reliability == 0
    assert [reports[rater].quarantine for rater in honest] == [None] * 10
    assert mean_reliability(reports, honest) > 0.85


def test_a_crowd_under_one_hand_is_held_and_the_others_are_not_measured_by_it():
    sybils = {f"sybil-{i}": 0.0 for i in range(8)}
    reports = of_crowd(HONEST | sybils, subjects=500)
    assert all("contradicts the others" in reports[rater].quarantine for rater in sybils)
    assert mean_reliability(reports, HONEST) > 0.85
    assert all(reports[rater].quarantine is None for rater in HONEST)


@pytest.mark.parametrize("accounts", [3, 10, 18])
def test_a_smaller_crowd_is_not_believed_where_it_outvotes_everybody(accounts):
    """Accounts that are all on the same 60 subjects, where three honest raters judged each."""
    found = crowd(HONEST, subjects=350)
    said = {}
    for vote in found:
        said[vote.subject] = said.get(vote.subject, 0) + vote.verdict
    sybils = [f"sybil-{i}" for i in range(accounts)]
    targets = list(said.items())[:60]
    found += [
        PairVote(s, rater, -1 if right > 0 else 1) for rater in sybils for s, right in targets
    ]
    reports = assessed([did(rater) for rater in [*HONEST, *sybils]], found)
    assert all("contradicts the others" in reports[rater].quarantine for rater in sybils)
    assert mean_reliability(reports, HONEST) > 0.85
    assert all(reports[rater].quarantine is None for rater in HONEST)


@pytest.mark.parametrize("each", [1, 6])
def test_two_camps_of_one_size_are_treated_alike(each):
    verdicts = {f"r{i:02}": [1, -1] * 10 if i % 2 else [-1, 1] * 10 for i in range(2 * each)}
    reports = assessed([did(rater) for rater in verdicts], judged(verdicts))
    assert len({report.reliability for report in reports.values()}) == 1
    assert {report.quarantine for report in reports.values()} == {None}


@pytest.mark.parametrize("skill", [0.55, 0.65, 0.95])
def test_raters_who_differ_only_by_accident_are_not_accused(skill):
    for seed in range(20):
        reports = of_crowd({f"rater-{i}": skill for i in range(15)}, subjects=150, seed=seed)
        assert {report.quarantine for report in reports.values()} == {None}


def test_another_taste_is_not_held_as_long_as_it_shares_most_judgements():
    """A third of the raters find the opposite where taste decides: in a third of the subjects."""
    rng = np.random.default_rng(0)
    found = []
    for subject in range(600):
        truth, of_taste = rng.choice([-1, 1]), rng.random() < 1 / 3
        for number in rng.choice(30, 4, replace=False):
            mine = -truth if of_taste and number < 10 else truth
            verdict = mine if rng.random() < 0.8 else -mine
            found.append(PairVote(("p", f"{subject}", "y"), f"rater-{number}", int(verdict)))
    reports = assessed([did(f"rater-{number}") for number in range(30)], found)
    assert {report.quarantine for report in reports.values()} == {None}


@settings(deadline=None)
@given(st.lists(st.lists(st.sampled_from([1, -1, 0, None]), max_size=4), max_size=16))
def test_any_judgements_have_an_answer(verdicts):
    given = {f"r{i:02}": some for i, some in enumerate(verdicts)}
    for report in assessed([did(rater) for rater in given], judged(given)).values():
        assert 0 <= report.reliability <= 1
        assert report.agreement is None or 0 <= report.agreement <= 1


def test_gold_questions_decide_between_two_camps_where_numbers_would_decide_wrongly():
    honest = {f"honest-{i}": 0.85 for i in range(6)}
    sybils = {f"sybil-{i}": 0.05 for i in range(10)}
    found = crowd(honest | sybils, subjects=400)
    tests = [did(rater, gold_right=18, gold_total=20) for rater in honest]
    tests += [did(rater, gold_right=1, gold_total=20) for rater in sybils]
    reports = assessed(tests, found)
    assert {rater for rater, report in reports.items() if report.quarantine} == set(sybils)
    assert all(reports[rater].reliability == 1 for rater in honest)


def test_raters_who_passed_tests_are_believed_against_more_who_took_none():
    honest = {f"honest-{i}": 0.85 for i in range(6)}
    sybils = {f"sybil-{i}": 0.05 for i in range(10)}
    tests = [did(rater, gold_right=18, gold_total=20) for rater in honest]
    tests += [did(rater) for rater in sybils]
    reports = assessed(tests, crowd(honest | sybils, subjects=400))
    assert {rater for rater, report in reports.items() if report.quarantine} == set(sybils)


@pytest.mark.parametrize(
    ("right", "total", "held"), [(5, 10, True), (6, 10, False), (0, 9, False), (30, 51, True)]
)
def test_fewer_than_six_in_ten_gold_questions_right_is_a_quarantine(right, total, held):
    report = assessed([did("ann", gold_right=right, gold_total=total)])["ann"]
    assert (report.quarantine is not None) == held
    assert report.reliability < 1


@pytest.mark.parametrize("left", [0, 40])
def test_who_always_chooses_one_side_is_quarantined(left):
    others = [did(f"rater-{i}", left=20 + i % 3, sided=40) for i in range(20)]
    reports = assessed([*others, did("lazy", left=left, sided=40)])
    assert f"the {'left' if left else 'right'} side in 40 of 40" in reports["lazy"].quarantine
    assert all(reports[e.rater_id].quarantine is None for e in others)


def test_a_habit_of_one_side_is_noted_and_not_punished():
    report = assessed([did("ann", left=80, sided=100)])["ann"]
    assert (report.quarantine, report.reliability) == (None, 1.0)
    assert "prefers the left side" in report.notes[0]
    assert assessed([did("ann", left=55, sided=100)])["ann"].notes == ()


def test_where_the_better_reply_is_mostly_left_nobody_is_blamed_for_it():
    reports = assessed([did(f"rater-{i}", left=38, sided=50) for i in range(10)])
    assert all(report.notes == () for report in reports.values())


def test_choices_too_fast_to_read_do_not_count():
    some, most = did("some", fast=6, timed=30), did("most", fast=29, timed=30)
    reports = assessed([some, most])
    assert reports["some"].quarantine is None
    assert reports["some"].reliability == pytest.approx(1 - 6 / 33, abs=1e-4)
    assert "too fast" in reports["most"].quarantine
    assert reports["most"].fast_share == pytest.approx(29 / 30)


@pytest.mark.parametrize("worlds", [3, pytest.param(40, marks=pytest.mark.slow)])
def test_honest_raters_are_rarely_hit(worlds):
    """Coins for sides, skills that differ: of 30 raters in a world, one in a hundred at most."""
    accused = 0
    for seed in range(worlds):
        rng = np.random.default_rng(seed)
        skills = {f"rater-{i:02}": float(rng.uniform(0.6, 0.9)) for i in range(30)}
        evidence = [did(r, left=int(rng.binomial(60, 0.5)), sided=60) for r in skills]
        reports = assessed(evidence, crowd(skills, subjects=300, seed=seed))
        accused += sum(report.quarantine is not None for report in reports.values())
    assert accused <= 0.01 * 30 * worlds


def test_the_quarantined_are_measured_but_measure_nobody():
    found = judged({"ann": [1, -1] * 10, "bob": [-1, 1] * 10})
    reports = assessed([did("ann"), did("bob", quarantined=True)], found)
    assert (reports["ann"].reliability, reports["ann"].shared) == (1.0, 0)
    assert reports["bob"].reliability < 1
    assert reports["bob"].shared == 20


@settings(deadline=None, max_examples=3)
@given(st.randoms(use_true_random=False))
def test_the_order_of_raters_and_judgements_does_not_matter(random):
    skills = {f"honest-{i}": 0.75 for i in range(6)} | {"contrary": 0.1, "coin": 0.5}
    evidence, found = [did(rater) for rater in skills], crowd(skills, subjects=40)
    straight = assess(evidence, found)
    shuffled = assess(random.sample(evidence, len(evidence)), random.sample(found, len(found)))
    assert shuffled == straight
    assert [report.rater_id for report in straight] == sorted(skills)


def test_no_raters_are_no_reports():
    assert assess([], []) == []


def test_limits_can_be_set():
    strict = dataclasses.replace(QualitySettings(), gold_share=0.95)
    [report] = assess([did("ann", gold_right=9, gold_total=10)], [], strict)
    assert report.quarantine is not None


@pytest.mark.parametrize("accounts", [2, 4, 8])
def test_who_fails_gold_is_not_believed_for_agreeing_with_others_who_fail(accounts):
    """Only accounts that all failed gold judged these, so nobody contradicts them."""
    said = judged({f"liar-{i}": [1] * 30 for i in range(accounts)})
    failed = [did(f"liar-{i}", gold_right=0, gold_total=9) for i in range(accounts)]
    for report in assessed(failed, said).values():
        assert report.reliability == 0
        assert "contradicts the others" in report.quarantine or "gold" in report.quarantine


def test_a_rater_who_is_mostly_wrong_has_no_say_and_is_not_believed_the_other_way_round():
    """On the last 40 subjects only the contrary rater contradicts ann: no reason to believe her."""
    gold = {"gold_right": 30, "gold_total": 30}
    others = {f"honest-{i}": [1] * 60 + [None] * 40 for i in range(6)} | {"contrary": [-1] * 100}
    found = []
    for last in ([None] * 40, [1] * 40):
        said = judged(others | {"ann": [1] * 12 + [-1] * 8 + [None] * 40 + last})
        who = [did(rater, **({} if rater == "contrary" else gold)) for rater in others]
        reports = assessed([*who, did("ann")], said)
        assert reports["contrary"].reliability == 0
        found.append(reports["ann"].reliability)
    assert found[0] == found[1] < 1
