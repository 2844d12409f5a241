"""How much evidence a cycle needs, and how far it goes with little."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback_store import CandidateReply, FeedbackStore
from feedback_store.splits import is_held_out_question
from rlhf_core.config import CycleSettings, DataSettings, GateSettings, PolicySettings
from rlhf_core.cycle.evidence import note_programs
from rlhf_core.cycle.snapshot import Supply, begin_snapshot

ENOUGH = Supply(decided=15, ties=10, new=25, held_out_prompts=6, held_out_decided=4, effective=20.0)
COUNTS = st.integers(0, 200)
SUPPLIES = st.builds(Supply, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS, st.floats(0, 300))


def test_ties_help_to_reach_what_a_cycle_needs():
    assert ENOUGH.lack(CycleSettings()) is None
    found = replace(ENOUGH, effective=19.4).lack(CycleSettings())
    assert found.startswith(
        "too little evidence: 15 decided comparisons, 10 ties and what thumbs alone add count as "
        "19.4 comparisons, 20 are"
    )


@pytest.mark.parametrize(
    ("less", "says"),
    [
        ({"new": 0}, "nothing new"),
        ({"held_out_prompts": 5}, "votes on 5 held-out prompts, 6 are needed"),
        ({"held_out_decided": 0}, "all votes on 6 held-out prompts are ties"),
    ],
)
def test_what_no_number_of_other_votes_replaces_is_asked_for(less, says):
    assert says in replace(ENOUGH, **less).lack(CycleSettings())


@given(SUPPLIES, SUPPLIES)
def test_more_evidence_never_refuses_what_less_would_not(supply, more):
    both = [getattr(supply, name) + getattr(more, name) for name in Supply.__slots__]
    if supply.lack(CycleSettings()) is None:
        assert Supply(*both).lack(CycleSettings()) is None


@given(st.floats(0, 300), st.floats(0, 300), st.integers(1, 200))
def test_a_step_grows_with_the_evidence_up_to_what_is_set(one, other, iterations):
    settings = CycleSettings(policy=PolicySettings(iterations=iterations))
    less, more = (settings.for_evidence(e).policy.iterations for e in sorted((one, other)))
    assert 1 <= less <= more <= iterations


def test_a_quarter_of_the_evidence_is_half_of_the_step():
    assert CycleSettings().for_evidence(20).policy.iterations == 20
    assert CycleSettings().for_evidence(80) == CycleSettings()
    assert CycleSettings(full_comparisons=0).for_evidence(1) == CycleSettings(full_comparisons=0)


def vote(store, question, choice):
    asked = store.add_message(store.add_conversation("ann").id, "user", question)
    replies = [CandidateReply("one thing"), CandidateReply("another")]
    shown, _ = store.add_candidates(asked.id, replies, rater_id="ann")
    store.add_choice(shown, "ann", choice, idempotency_key=shown)


def test_the_gate_asks_every_held_out_question_that_people_judged(tmp_path):
    questions = [f"What is {number}?" for number in range(200)]
    held_out = [question for question in questions if is_held_out_question(question)][:3]
    with FeedbackStore(tmp_path / "feedback.db") as store:
        store.add_rater("ann", kind="simulated")
        for question, choice in zip(held_out, ("a", "tie", "both_bad"), strict=True):
            vote(store, question, choice)
        store.refresh_comparisons()
        snapshot, supply = begin_snapshot(store, CycleSettings(gate=GateSettings(min_prompts=2)))
    assert sorted(prompt[-1]["content"] for prompt in snapshot.held_out_prompts) == sorted(held_out)
    assert (supply.held_out_prompts, supply.held_out_decided) == (2, 1), "both bad is no comparison"
    assert supply.effective == 2.0 and snapshot.amount.questions == 3


QUESTIONS = [f"question {number}" for number in range(120)]


def cast(store, rater, kind, questions):
    """Votes of one rater: people prefer the kind reply, a biased judge the long one."""
    store.add_rater(rater, kind=kind, consent="v1" if kind == "person" else None)
    conversation = store.add_conversation(rater).id
    for question in questions:
        asked = store.add_message(conversation, "user", question)
        replies = [CandidateReply("kind"), CandidateReply("long and flattering")]
        shown = store.add_candidates(asked.id, replies, rater_id=rater)[0]
        store.add_choice(shown, rater, "b" if kind == "judge" else "a")
    store.refresh_comparisons()


def begun(path, **data):
    settings = CycleSettings(data=DataSettings(**data))
    with FeedbackStore(path) as store:
        store.let_programs_train(settings.data.programs, share=settings.data.programs_share)
        return begin_snapshot(store, settings)


def preferred(votes):
    """The replies that votes prefer."""
    return {vote.response_a if vote.label == "a" else vote.response_b for vote in votes}


def test_a_judge_alone_cannot_move_a_promotion(tmp_path):
    path = tmp_path / "feedback.db"
    with FeedbackStore(path) as store:
        cast(store, "judge-1", "judge", QUESTIONS)
    for data in ({}, {"programs": ("judge",)}):
        snapshot, supply = begun(path, **data)
        assert snapshot.held_out == (), "the gate asks no judge"
        assert "too little evidence" in supply.lack(CycleSettings())
    snapshot, supply = begun(path, programs=("judge",), programs_decide=True)
    assert preferred(snapshot.held_out) == {"long and flattering"}
    assert supply.lack(CycleSettings()) is None, "the operator said so"


def test_the_gate_decides_on_people_whatever_judges_say_beside_them(tmp_path):
    path = tmp_path / "feedback.db"
    with FeedbackStore(path) as store:
        cast(store, "ann", "person", QUESTIONS[:60])
        cast(store, "judge-1", "judge", QUESTIONS)
    alone, _ = begun(path)
    assert alone.kinds == {"person": 60} and preferred(alone.train) == {"kind"}
    beside, _ = begun(path, programs=("judge",), programs_share=0.3)
    assert preferred(beside.held_out) == {"kind"}
    assert [v.prompt for v in beside.held_out] == [v.prompt for v in alone.held_out]
    assert preferred(beside.train) == {"kind", "long and flattering"}
    theirs = sum(vote.weight for vote in beside.train if preferred([vote]) != {"kind"})
    everything = sum(vote.weight for vote in beside.train)
    assert theirs == pytest.approx(0.3 * everything), "of what trains"


def test_beside_simulated_visitors_that_stand_in_for_people_a_judge_has_its_share(tmp_path):
    path = tmp_path / "feedback.db"
    with FeedbackStore(path) as store:
        cast(store, "robot", "simulated", QUESTIONS[:30])
        cast(store, "judge-1", "judge", QUESTIONS)
    snapshot, _ = begun(path, programs=("judge",), programs_share=0.3)
    theirs = sum(vote.weight for vote in snapshot.train if preferred([vote]) != {"kind"})
    assert theirs == pytest.approx(0.3 * sum(vote.weight for vote in snapshot.train))


def test_a_flood_of_a_judges_votes_takes_no_place_of_peoples(tmp_path):
    path = tmp_path / "feedback.db"
    with FeedbackStore(path) as store:
        cast(store, "ann", "person", QUESTIONS[:20])
        cast(store, "judge-1", "judge", QUESTIONS)
    few = {"programs": ("judge",), "programs_share": 0.3, "most_opinions": 40}
    snapshot, _ = begun(path, **few)
    votes = [preferred([vote]) for vote in snapshot.train]
    on_training = sum(not is_held_out_question(question) for question in QUESTIONS[:20])
    assert votes.count({"kind"}) == on_training
    assert votes.count({"long and flattering"}) == 12


def test_where_people_fill_all_places_programs_get_none(tmp_path):
    path = tmp_path / "feedback.db"
    with FeedbackStore(path) as store:
        cast(store, "ann", "person", QUESTIONS)
        cast(store, "judge-1", "judge", QUESTIONS)
    few = {"programs": ("judge",), "programs_share": 0.3, "most_opinions": 40}
    snapshot, _ = begun(path, **few)
    assert [preferred([vote]) for vote in snapshot.train] == [{"kind"}] * 40


def test_a_cycle_whose_settings_name_no_programs_follows_what_a_server_noted(tmp_path):
    path = tmp_path / "feedback.db"
    with FeedbackStore(path) as store:
        cast(store, "ann", "person", QUESTIONS[:60])
        cast(store, "judge-1", "judge", QUESTIONS)
        store.let_programs_train(["judge"], share=0.3)
        note_programs(store, DataSettings())
        snapshot, _ = begin_snapshot(store, CycleSettings())
        assert preferred(snapshot.train) == {"kind", "long and flattering"}
        note_programs(store, DataSettings(programs=()))
        snapshot, _ = begin_snapshot(store, CycleSettings())
        assert preferred(snapshot.train) == {"kind"}, "the settings say so"


def test_a_ranking_of_nine_is_one_opinion_in_its_group_its_age_its_side_and_the_amount(tmp_path):
    questions = [f"What is {number}?" for number in range(200)]
    training = [question for question in questions if not is_held_out_question(question)][:3]
    letters = "abcdefghi"
    with FeedbackStore(tmp_path / "feedback.db") as store:
        store.add_rater("ann", kind="simulated")
        vote(store, training[0], "a")
        asked = store.add_message(store.add_conversation("ann").id, "user", training[1])
        replies = [CandidateReply(f"reply {letter}") for letter in letters]
        shown, _ = store.add_candidates(asked.id, replies, rater_id="ann")
        store.add_ranking(shown, "ann", [*map(list, letters[:-2]), ["h", "i"]])
        vote(store, training[2], "b")
        store.refresh_comparisons()
        snapshot, _ = begin_snapshot(store, CycleSettings())
    ranked = [c for c in snapshot.train if c.group]
    assert len(ranked) == 36 and len({c.group for c in ranked}) == 1
    assert [c.label for c in ranked].count("tie") == 1
    assert all(c.weight == pytest.approx(1) for c in ranked), "training takes their mean"
    assert not snapshot.held_out, "all pairs of a ranking are on one side"
    assert {c.age for c in ranked} == {1} and {c.age for c in snapshot.train} == {0, 1, 2}
    assert snapshot.new == 3 and 2.9 < snapshot.amount.effective <= 3
