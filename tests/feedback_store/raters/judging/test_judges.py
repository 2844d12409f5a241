"""Model judges: both orders, one vote, and a report that finds their habits."""

import math

import pytest

from feedback_store import FeedbackStore, UnknownRecordError
from feedback_store.raters.judging.judges import vote_of
from feedback_store.raters.judging.report import TESTS, Verdicts, beyond_people, share
from tests.feedback_store.conftest import Chat

WAYS = {
    "left": lambda first, a, b: first,
    "longer": lambda first, a, b: "a" if len(a) > len(b) else "b",
}


def judged(store: FeedbackStore, way: str) -> str:
    """A judge of one way that has answered about every pair."""
    judge = store.add_judge(way, "http://here/v1", "Be fair.").rater_id
    for pair in list(store.pairs_for_judge(judge)):
        for first in pair.unasked:
            picked = WAYS[way](first, pair.replies["a"], pair.replies["b"])
            store.add_judge_answer(judge, pair.candidates_id, first_shown=first, picked=picked)
    store.refresh_comparisons()
    return judge


def asked(chat: Chat, number: int) -> str:
    """A pair; the longer reply is a in every other one."""
    texts = (f"yes {number}", f"yes indeed, and so much more {number}")
    return chat.shown(f"question {number}", *texts[:: 1 if number % 2 else -1])


@pytest.mark.parametrize(
    ("picks", "vote"),
    [
        (["a", "a"], "a"),
        (["b", "b"], "b"),
        (["a", "b"], "tie"),
        (["a", "tie"], "tie"),
        (["a", None], None),
        (["a"], None),
    ],
)
def test_a_reply_wins_only_if_it_is_preferred_in_both_orders(picks, vote):
    assert vote_of(picks) == vote


def test_the_second_answer_makes_the_vote_and_the_same_again_changes_nothing(
    store: FeedbackStore, ann: Chat
) -> None:
    pair, judge = asked(ann, 0), store.add_judge("m", "http://here/v1", "Be fair.").rater_id
    assert store.add_judge("m", "http://here/v1", "Be fair.").rater_id == judge
    assert store.add_judge_answer(judge, pair, first_shown="a", picked="b") is None
    assert [one.unasked for one in store.pairs_for_judge(judge)] == [("b",)]
    for _ in range(2):
        assert store.add_judge_answer(judge, pair, first_shown="b", picked="b") == "b"
    assert [(c.rater_id, c.choice) for c in store.choices()] == [(judge, "b")]
    assert list(store.pairs_for_judge(judge)) == []
    assert store.rater(judge).kind == "judge"


def test_an_answer_without_a_verdict_is_no_vote_and_is_not_asked_for_again(
    store: FeedbackStore, ann: Chat
) -> None:
    pair, judge = asked(ann, 0), store.add_judge("m", "http://here/v1", "Be fair.").rater_id
    for first, picked in (("a", "a"), ("b", None)):
        assert store.add_judge_answer(judge, pair, first_shown=first, picked=picked) is None
    assert store.choices() == [] and list(store.pairs_for_judge(judge)) == []
    assert store.judge_report(judge).unclear == 1


def test_nobody_is_asked_about_what_may_not_be_read(store: FeedbackStore, ann: Chat) -> None:
    judge = store.add_judge("m", "http://here/v1", "Be fair.").rater_id
    pairs = [asked(ann, number) for number in range(2)]
    ann.choose(pairs[0], "a")

    def left(which: str = "all") -> list[str]:
        return sorted(pair.candidates_id for pair in store.pairs_for_judge(judge, which=which))

    assert (left("judged"), left("unjudged")) == (pairs[:1], pairs[1:])
    store.leave_out("conversation", [ann.conversation], by="operator", reason="private")
    assert left() == []
    with pytest.raises(UnknownRecordError, match="deleted or left out"):
        store.add_judge_answer(judge, pairs[0], first_shown="a", picked="a")
    store.take_in("conversation", [ann.conversation], by="operator")
    store.set_consent(ann.rater, None)
    assert left() == []
    store.set_consent(ann.rater, "v1")
    assert left() == pairs
    store.forget(ann.rater)
    assert left() == [] and store.choices() == []


def test_a_pair_is_judged_by_thumbs_or_elsewhere_as_well_as_by_a_choice(
    store: FeedbackStore, ann: Chat, bob: Chat
) -> None:
    judge = store.add_judge("m", "http://here/v1", "Be fair.").rater_id
    pairs = [asked(ann, number) for number in range(3)]
    for message in store.candidates(pairs[0]):
        store.add_thumb(message.id, ann.rater, 1 if message.label == "a" else -1)
    bob.choose(asked(bob, 1), "a")  # the same question and the same two replies
    judged_pairs = {p.candidates_id for p in store.pairs_for_judge(judge, which="judged")}
    assert judged_pairs.issuperset(pairs[:2]) and pairs[2] not in judged_pairs
    assert store.sets_for_judges("judged") == (3, 0)


def test_a_limit_that_some_pairs_use_up_keeps_no_other_from_its_turn(
    store: FeedbackStore, ann: Chat
) -> None:
    judge = store.add_judge("m", "http://here/v1", "Be fair.").rater_id
    pairs = {asked(ann, number) for number in range(4)}
    drawn: set[str] = set()
    for _ in range(200):  # all four come but for one case in 10^24
        drawn |= {pair.candidates_id for pair in store.pairs_for_judge(judge, limit=1)}
    assert drawn == pairs


def test_sets_of_more_than_two_replies_are_counted_and_not_judged(
    store: FeedbackStore, ann: Chat
) -> None:
    more = ann.shown("rank them", "one", "two", "three")
    assert store.sets_for_judges("unjudged") == (0, 1)
    store.add_ranking(more, ann.rater, [["b"], ["a", "c"]])
    assert (store.sets_for_judges("judged"), store.sets_for_judges("unjudged")) == ((0, 1), (0, 0))
    assert list(store.pairs_for_judge("nobody")) == []


def test_who_is_forgotten_is_forgotten_by_the_judge(store: FeedbackStore, ann: Chat) -> None:
    asked(ann, 0)
    judge = judged(store, "longer")
    assert store.judge_report(judge).pairs == 1
    store.forget(ann.rater)
    assert store.judge_report(judge).pairs == 0 and store.verify() == []
    store.forget(judge)
    assert store.judges() == [] and store.verify() == []


def test_a_judge_has_no_weight_until_its_kind_trains(store: FeedbackStore, ann: Chat) -> None:
    def standing() -> tuple[bool, float]:
        (judge,) = (one for one in store.raters() if one.kind == "judge")
        return judge.kind_trains, judge.weight

    store.add_judge("m", "http://here/v1", "Be fair.")
    assert standing() == (False, 0.0), "also before it has said anything"
    store.let_programs_train(["judge"])
    assert standing() == (True, 1.0)


def test_a_judge_that_always_prefers_the_left_is_found_out(store: FeedbackStore, ann: Chat) -> None:
    for number in range(30):
        ann.choose(asked(ann, number), "a")
    report = store.judge_report(judged(store, "left"))
    assert report.first.value == 1.0 and report.same.value == 0.0
    assert report.found == (
        "position bias: on the 30 of 30 pairs on which its two answers differ, they name the "
        "first reply 100% of the time",
    )
    assert {c.choice for c in store.choices() if c.rater_id != ann.rater} == {"tie"}


def test_a_judge_that_prefers_the_longer_reply_is_found_out_beside_people(
    store: FeedbackStore, ann: Chat
) -> None:
    for number in range(30):  # people prefer the longer one in half of the cases
        ann.choose(asked(ann, number), "a")
    report = store.judge_report(judged(store, "longer"))
    assert report.longer_beside.value == 1.0 and report.longer_of_people.value == 0.5
    assert report.agreement.value == 0.5 and report.agreement.total == 30
    (found,) = report.found
    assert found.startswith("length: it prefers the longer reply +50%")


def test_a_judge_that_prefers_long_replies_as_people_do_is_not_blamed(
    store: FeedbackStore, ann: Chat, bob: Chat
) -> None:
    for number in range(30):
        for chat in (ann, bob):
            chat.choose(asked(chat, number), "b" if number % 2 else "a")
    report = store.judge_report(judged(store, "longer"))
    assert report.found == ()
    assert report.agreement.value == report.people_agree.value == 1.0


def test_a_judge_that_flatterers_win_over_is_found_out(store: FeedbackStore) -> None:
    judge = store.add_judge("m", "http://here/v1", "Be fair.").rater_id
    for number in range(12):
        for first in "ab":
            store.add_judge_probe(judge, f"flattery/{number}", first_shown=first, picked="b")
            store.add_judge_probe(judge, f"padding/{number}", first_shown=first, picked=first)
    report = store.judge_report(judge)
    assert report.probes["flattery"].value == 1.0 and report.probes["padding"].value is None
    (found,) = report.found
    assert found.startswith("flattery: it prefers")


def test_what_people_say_on_other_pairs_is_told_apart(store: FeedbackStore, ann: Chat) -> None:
    for number in range(10):
        shown = asked(ann, number)
        if number < 4:
            ann.choose(shown, "a")
    report = store.judge_report(judged(store, "longer"))
    assert (report.longer.total, report.longer_beside.total) == (10, 4)
    assert report.longer_of_people.total == report.beyond_people.total == 4


def cases(values: list[float]) -> list[tuple[str, float]]:
    """One case a question."""
    return [(f"question {number}", float(value)) for number, value in enumerate(values)]


def test_a_share_has_wilsons_interval():
    found = share(cases([1] * 30 + [0] * 10))
    assert (found.value, found.total, found.above, found.below) == (0.75, 40, 30, 10)
    assert found.low == pytest.approx(0.598, abs=1e-3)


def test_forty_people_on_one_question_are_one_case():
    found = share([("the same question", 1.0)] * 40)
    assert (found.value, found.total, found.above) == (1.0, 40, 1)
    assert found.low < 0.5 and found.clearly(0.5) == 0


@pytest.mark.parametrize(("all_of", "found"), [(4, 0), (7, 0), (8, 1)])
def test_on_fewer_than_eight_questions_nothing_is_ever_found(all_of, found):
    assert share(cases([1] * all_of)).clearly(0.5) == found
    assert share(cases([0] * all_of)).clearly(0.5) == -found


def test_a_fair_judge_is_blamed_for_anything_in_at_most_one_of_twenty_reports():
    for n in range(1, 61):
        blamed = [k for k in range(n + 1) if share(cases([1] * k + [0] * (n - k))).clearly(0.5)]
        assert TESTS * sum(math.comb(n, k) for k in blamed) / 2**n <= 0.05


def gaps(*values: int) -> list[Verdicts]:
    """A pair each; the judge is for the longer reply, and one person as the gap says."""
    return [Verdicts(f"question {n}", 1, (1 - 2 * gap,), 1) for n, gap in enumerate(values)]


def test_a_few_equal_differences_from_people_are_no_certainty():
    few, many = beyond_people(gaps(1, 1)), beyond_people(gaps(*[1] * 12))
    assert (few.value, few.clearly(0.0)) == (1.0, 0) and few.low < 0
    assert many.clearly(0.0) == 1 and many.low > 0.5
    assert beyond_people([]).value is None
