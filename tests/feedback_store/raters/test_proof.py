from hypothesis import given
from hypothesis import strategies as st

from feedback_store.raters.agreement import PairVote
from feedback_store.raters.proof import Account, proven

ELDER = Account("elder", None, new=False, heard=True, gold_right=0, gold_total=0)
NEW = Account("new", "home", new=True, heard=True, gold_right=0, gold_total=0)


def votes(rater, verdicts, *, prompt=None):
    """Verdicts on subjects 0, 1, ...; each on a prompt of its own, unless one is named."""
    return [
        PairVote((prompt or f"prompt {n}", f"a{n}", f"b{n}"), rater, verdict)
        for n, verdict in enumerate(verdicts)
    ]


def shown(said, *, new=NEW, other=ELDER, **options):
    """Whether saying this, where another one finds the first text better, proves a new rater."""
    theirs = votes(other.rater_id, [1] * len(said), **options)
    mine = votes(new.rater_id, said, **options)
    return proven([new, other], theirs + mine)[new.rater_id]


def test_five_prompts_agreed_on_are_proof_and_four_are_not():
    assert shown([1] * 5)
    assert not shown([1] * 4)
    assert not shown([])


def test_agreement_has_to_be_more_than_chance():
    assert shown([1] * 12 + [-1] * 3)
    assert not shown([1] * 8 + [-1] * 7)
    assert not shown([-1] * 30)
    assert not shown([0] * 30)


def test_many_pairs_on_one_prompt_are_one_opinion():
    assert not shown([1] * 10, prompt="rank these")


def test_nobody_of_the_same_origin_nobody_new_and_nobody_in_quarantine_can_speak_for_another():
    assert shown([1] * 9, other=ELDER._replace(origin="work"))
    assert not shown([1] * 9, other=ELDER._replace(origin="home"))
    assert not shown([1] * 9, other=ELDER._replace(origin="work", new=True))
    assert not shown([1] * 9, other=ELDER._replace(heard=False))


def test_housemates_do_not_hide_what_others_said():
    """An older account at home that says the opposite of the others is not heard on the matter."""
    home = ELDER._replace(rater_id="old at home", origin="home")
    judged = votes("elder", [1] * 6) + votes("old at home", [-1] * 6) + votes("new", [1] * 6)
    assert proven([NEW, ELDER, home], judged) == {"new": True}


def test_gold_questions_are_proof_too():
    assert shown([], new=NEW._replace(gold_right=5, gold_total=5))
    assert not shown([], new=NEW._replace(gold_right=5, gold_total=9))


def test_only_new_raters_with_an_origin_are_asked_for_proof():
    others = [ELDER, NEW._replace(rater_id="x", origin=None), ELDER._replace(rater_id="y")]
    assert proven(others, []) == {}


subjects = st.tuples(st.sampled_from("pq"), st.sampled_from("ab"), st.sampled_from("cd"))
raters = st.sampled_from(["new", "elder", "other", "third"])
judged = st.lists(
    st.builds(PairVote, subjects, raters, st.integers(-1, 1)), unique_by=lambda v: v[:2]
)


@given(judged, st.randoms(use_true_random=False))
def test_the_order_of_raters_and_judgements_does_not_matter(found, random):
    accounts = [
        NEW._replace(gold_right=3, gold_total=3),
        ELDER,
        ELDER._replace(rater_id="other", origin="home"),
        ELDER._replace(rater_id="third", origin="work"),
    ]
    expected = proven(accounts, found)
    assert proven(random.sample(accounts, 4), random.sample(found, len(found))) == expected
