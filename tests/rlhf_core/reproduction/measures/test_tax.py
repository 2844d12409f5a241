"""Claim 7 on items whose results are written by hand."""

from pathlib import Path

import pytest

from rlhf_core.reproduction.measures.tax import skills_lost_and_won_back
from rlhf_core.worlds.miniature.skills import SKILLS, questions
from tests.rlhf_core.reproduction.measures.written import SEED, written

ITEMS = 100


def items(right: int) -> list[float]:
    """So many right answers, spread over the items."""
    return [float((37 * i) % ITEMS < right) for i in range(ITEMS)]


def skilled(
    root: Path, *, penalty: tuple[int, float] = (60, 0.5), loses: int = 50
) -> dict[str, object]:
    """PPO loses so many items of two skills, of which ptx has all but ten again."""

    def facts(lost: int, score: float) -> dict[str, object]:
        skills = {skill: items(90 - lost if skill in SKILLS[:2] else 90) for skill in SKILLS}
        return {"skills": skills, "score": score}

    judged = written(
        root,
        {
            "skills-base": facts(0, 0.0),
            "skills-sft": facts(0, 0.2),
            "skills-ppo": facts(loses, 1.0),
            "skills-ptx": facts(min(10, loses), 0.9),
            "skills-kl-0_5": facts(*penalty),
        },
    )
    return dict(skills_lost_and_won_back(judged).figures)


def test_what_falls_and_what_is_won_back_is_counted_against_the_base(tmp_path: Path) -> None:
    found = skilled(tmp_path)
    assert found["skills that fall"].value == 2  # type: ignore[attr-defined]
    assert found["won back"].value == pytest.approx(0.8)  # type: ignore[attr-defined]
    assert found[f"fall of {SKILLS[0]}"].value == pytest.approx(0.5)  # type: ignore[attr-defined]
    assert found[f"fall of {SKILLS[4]}"].value == 0  # type: ignore[attr-defined]
    assert found["mean skill, ppo"].value == pytest.approx(0.7)  # type: ignore[attr-defined]


def test_a_penalty_does_as_well_only_with_both_skills_and_score(tmp_path: Path) -> None:
    wanted = {(10, 0.9): 1, (10, 0.8): 0, (20, 0.95): 0}
    for place, (penalty, count) in enumerate(wanted.items()):
        found = skilled(tmp_path / str(place), penalty=penalty)
        assert found["KL penalties that do as well"].value == count  # type: ignore[attr-defined]


def test_items_with_the_same_last_line_are_one_cluster(tmp_path: Path) -> None:
    about = skilled(tmp_path)["ending, base"].about  # type: ignore[attr-defined]
    asked = [item.given.split("\n")[-1] for item in questions("ending", ITEMS, SEED)]
    assert about.startswith("100 replies")
    assert int(about.split(", ")[1].split()[0]) == len(set(asked)) < ITEMS


def test_the_share_won_back_bears_draws_in_which_nothing_falls(tmp_path: Path) -> None:
    figure = skilled(tmp_path, loses=4)["won back"]
    assert figure.value == 0 and figure.high is not None  # type: ignore[attr-defined]
