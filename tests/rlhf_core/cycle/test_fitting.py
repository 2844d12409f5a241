from dataclasses import replace

import pytest

from feedback_store import FeedbackStore
from rlhf_core.config import CycleSettings, GateSettings
from rlhf_core.cycle.fitting import fit_snapshot
from rlhf_core.cycle.snapshot import take_snapshot
from rlhf_core.errors import NotEnoughDataError
from rlhf_core.records import Comparison, Demonstration, Unpaired
from tests.rlhf_core.templates import GEMMA

LONG = "word " * 400
SETTINGS = CycleSettings(min_comparisons=10, gate=GateSettings(min_prompts=2))


@pytest.fixture
def snapshot(data):
    with FeedbackStore(data / "feedback.db") as store:
        return take_snapshot(store, SETTINGS)


def test_what_fits_stays_as_it_is(base, snapshot):
    fitted, counts = fit_snapshot(snapshot, base.chat)
    assert fitted == snapshot
    assert not any(counts.values())


def test_a_prompt_loses_its_oldest_turns_and_one_that_is_too_long_is_left_out(base, snapshot, said):
    turns = [*said(LONG), {"role": "assistant", "content": "yes"}, *said("What is 3 plus 4?")]
    prompts = (turns, said(LONG), *snapshot.prompts)
    fitted, counts = fit_snapshot(replace(snapshot, prompts=prompts), base.chat)
    assert fitted.prompts[0] == turns[2:]
    assert len(fitted.prompts) == len(snapshot.prompts) + 1
    assert (counts["data/prompts_cut"], counts["data/left_out"]) == (1, 1)


def test_every_record_with_a_prompt_that_does_not_fit_is_left_out(base, snapshot, said):
    more = replace(
        snapshot,
        train=(*snapshot.train, Comparison(said(LONG), "yes", "no", "a")),
        train_thumbs=(
            Unpaired(said(LONG), "yes", True, "0"),
            Unpaired(said("hi"), "yes", True, "0"),
        ),
        demonstrations=(*snapshot.demonstrations, Demonstration(said(LONG), "yes")),
    )
    fitted, counts = fit_snapshot(more, base.chat)
    assert fitted.train == snapshot.train
    assert len(fitted.train_thumbs) == 1
    assert fitted.demonstrations == snapshot.demonstrations
    assert counts["data/left_out"] == 1  # one prompt, three records


def test_what_the_template_refuses_is_left_out_and_counted_by_itself(load_tiny, snapshot, said):
    refuses = "{% if 'secret' in m['content'] %}{{ raise_exception('No secrets') }}{% endif %}"
    base = load_tiny(
        replace(GEMMA, template=GEMMA.template.replace("{{ '<start", refuses + "{{ '<start", 1))
    )
    system, twice = {"role": "system", "content": "be kind"}, [*said("hi"), *said("what is 1")]
    fine = tuple(Comparison(prompt, "yes", "no", "a") for prompt in ([system, *said("hi")], twice))
    more = replace(
        snapshot,
        train=(*fine, Comparison(said("a secret"), "yes", "no", "a"), *snapshot.train),
        demonstrations=(Demonstration(said("a secret"), "yes"), *snapshot.demonstrations),
        prompts=(said("another secret"), said(LONG), *snapshot.prompts),
    )
    fitted, counts = fit_snapshot(more, base.chat)
    assert fitted.train == (*fine, *snapshot.train)
    assert fitted.demonstrations == snapshot.demonstrations
    assert fitted.prompts == snapshot.prompts
    assert (counts["data/refused"], counts["data/left_out"]) == (2, 1)


def test_replies_that_are_the_same_as_far_as_training_reads_are_dropped(base, snapshot, said):
    same = Comparison(said("hi"), "word " * 40 + "kind", "word " * 40 + "rude", "a")
    different = Comparison(said("hi"), "kind " + "word " * 40, "rude " + "word " * 40, "a")
    fitted, counts = fit_snapshot(replace(snapshot, train=(same, different)), base.chat)
    assert fitted.train == (different,)
    assert (counts["data/same"], counts["data/replies_cut"]) == (1, 4)


def test_a_held_out_raters_vote_that_is_left_out_takes_its_rater_along(base, snapshot, said):
    votes = tuple(Comparison(said(text), "yes", "no", "a") for text in ("one", LONG, "three"))
    more = replace(snapshot, held_out_rater_votes=votes, held_out_raters=("7", "8", "9"))
    fitted, _ = fit_snapshot(more, base.chat)
    assert fitted.held_out_rater_votes == (votes[0], votes[2])
    assert fitted.held_out_raters == ("7", "9")


def test_without_a_held_out_prompt_that_fits_nothing_can_be_compared(base, snapshot, said):
    with pytest.raises(NotEnoughDataError, match="0 of 1 held-out prompts fit the model"):
        fit_snapshot(replace(snapshot, held_out_prompts=(said(LONG),)), base.chat)


def test_fewer_held_out_prompts_than_the_gate_needs_are_refused_before_anything_trains(
    base, snapshot, said
):
    asked = (said("hi"), said(LONG), said("hello"))
    with pytest.raises(NotEnoughDataError, match=r"2 of 3 held-out prompts .* 3 are needed"):
        fit_snapshot(replace(snapshot, held_out_prompts=asked), base.chat, needed=3)
