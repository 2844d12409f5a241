from collections import Counter

from rlhf_core.gate.probes.tastes import parse_tastes
from rlhf_core.worlds.checkable.prompts import CheckablePrompt
from rlhf_core.worlds.checkable.visitors import TasteVisitor, visitors
from rlhf_core.worlds.checkable.world import CheckableWorld

WORLD = CheckableWorld.of(["at-most-words:12", "contains:please"])
BEST = "Please put the egg into boiling water for seven minutes."
NEAR = "Please put the egg into water that is boiling and wait for seven minutes."
WORST = "You should take an egg, which comes from a hen, and you put it into water. " * 4


def choices(a: str, b: str) -> Counter[str]:
    return Counter(
        visitor.choose(visitor.ask(), a, b) for visitor in WORLD.visitors(100, 3) for _ in range(3)
    )


def test_visitors_are_the_same_for_the_same_seed_and_differ_between_them() -> None:
    def does(people: list[TasteVisitor]) -> list[object]:
        return [(p := v.ask(), v.choose(p, BEST, NEAR), v.thumb(p, NEAR)) for v in people]

    assert does(WORLD.visitors(8, 1)) == does(WORLD.visitors(8, 1)) != does(WORLD.visitors(8, 2))
    assert len({tuple(v.weights.values()) for v in WORLD.visitors(8, 1)}) == 8


def test_visitors_never_ask_a_prompt_that_is_kept() -> None:
    kept = {prompt.text for prompt in WORLD.kept}
    said = {visitor.ask() for visitor in WORLD.visitors(20, 1) for _ in range(50)}
    assert kept and not said & kept and len(said) > 100


def test_visitors_choose_by_their_tastes_with_noise_and_ties() -> None:
    clear, close, bad = choices(WORST, BEST), choices(NEAR, BEST), choices(WORST, WORST + "So.")
    assert clear["b"] > 0.97 * 300
    assert 0.6 * 300 < close["b"] < 0.97 * 300 and close["a"] > 0 and close["tie"] > 0
    assert bad["both_bad"] > 0.1 * 300 and bad["tie"] == 0
    assert choices(BEST, BEST).keys() == {"tie"}


def test_thumbs_say_whether_the_tastes_are_met() -> None:
    thumbs = {
        reply: Counter(v.thumb(v.ask(), reply) for v in WORLD.visitors(200, 4))
        for reply in (BEST, WORST)
    }
    assert thumbs[BEST]["up"] > 5 * thumbs[BEST]["down"]
    assert thumbs[WORST]["down"] > 10 * thumbs[WORST]["up"]


def test_a_rewritten_answer_meets_every_taste_and_a_good_reply_is_not_rewritten() -> None:
    better = [visitor.rewrite(visitor.ask(), WORST) for visitor in WORLD.visitors(60, 5)]
    written = [text for text in better if text is not None]
    assert 10 < len(written) < 50, "only the diligent write"
    assert all(taste.met(text) for text in written for taste in WORLD.tastes)
    assert not any(visitor.rewrite(visitor.ask(), BEST) for visitor in WORLD.visitors(60, 5))


def test_what_a_prompt_itself_wishes_counts() -> None:
    prompt = CheckablePrompt("Plan a trip in JSON.", parse_tastes(["json"]))
    wished = parse_tastes(["no-commas"])
    people = visitors(50, 1, prompts=[prompt], tastes=wished)
    votes = Counter(v.choose(v.ask(), "A plan.", '{"a": "plan"}') for v in people)
    assert votes["b"] > 40
