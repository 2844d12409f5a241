from hypothesis import given, settings
from hypothesis import strategies as st

from feedback_store import StoredUnpaired, pair_across_raters

TIME = "2026-01-01T00:00:00.000Z"


def thumb(name, rater, good, response, prompt="hello", source="thumb"):
    asked = ({"role": "user", "content": prompt},)
    return StoredUnpaired(
        name, asked, response, good, source, 1.0, rater, "train", TIME, f"event of {name}"
    )


def test_a_liked_and_a_disliked_response_of_two_raters_are_compared_and_name_both():
    [pair], rest = pair_across_raters([thumb("1", "ann", True, "x"), thumb("2", "bob", False, "y")])
    better = pair.response_a if pair.label == "a" else pair.response_b
    judges = {pair.response_a: pair.rater_id, pair.response_b: pair.other_rater_id}
    assert (better, judges, rest) == ("x", {"x": "ann", "y": "bob"}, [])
    assert (pair.source, pair.event_ids) == ("across", ("event of 1", "event of 2"))


def test_thumbs_on_different_prompts_are_never_compared():
    votes = [thumb("1", "ann", True, "x"), thumb("2", "bob", False, "y", prompt="bye")]
    assert pair_across_raters(votes) == ([], votes)


def test_opposite_thumbs_on_the_same_text_compare_nothing():
    votes = [thumb("1", "ann", True, "x"), thumb("2", "bob", False, "x")]
    assert pair_across_raters(votes) == ([], votes)


def test_both_bad_is_never_paired():
    votes = [thumb("1", "ann", True, "x"), thumb("2", "bob", False, "y", source="both_bad")]
    pairs, rest = pair_across_raters(votes)
    assert (pairs, len(rest)) == ([], 2)


votes = st.lists(
    st.tuples(st.sampled_from("ab"), st.booleans(), st.sampled_from("xyz"), st.sampled_from("pq")),
    max_size=12,
).map(lambda made: [thumb(f"{i:02}", r, g, t, p) for i, (r, g, t, p) in enumerate(made)])


@settings(deadline=None)
@given(votes, st.randoms(use_true_random=False))
def test_every_thumb_is_used_once_whatever_their_order(cast, random):
    pairs, rest = pair_across_raters(cast)
    assert (pairs, rest) == pair_across_raters(random.sample(cast, len(cast)))
    used = [event for pair in pairs for event in pair.event_ids]
    assert sorted(used + [one.event_id for one in rest]) == sorted(one.event_id for one in cast)
    assert all(pair.rater_id != pair.other_rater_id for pair in pairs)
