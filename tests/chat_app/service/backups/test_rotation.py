"""Which backups stay."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from chat_app.service.backups.checking import VERIFIED
from chat_app.service.backups.rotation import clean, kept, name_of, rotate

NOON = datetime(2026, 3, 18, 12, tzinfo=UTC)  # a Wednesday
TIMES = st.lists(
    st.datetimes(datetime(2025, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC)), max_size=40
)
SMALL = st.integers(1, 9)


def ago(days: float) -> datetime:
    return NOON - timedelta(days=days)


def make(folder: Path, times: Iterable[datetime], *, verified: bool = True) -> list[str]:
    names = [name_of(time) for time in times]
    for name in names:
        (folder / name).mkdir(parents=True)
        if verified:
            (folder / name / VERIFIED).write_text(json.dumps({}))
    return names


def test_the_last_of_each_of_the_last_days_and_weeks_stays() -> None:
    daily = [ago(days) for days in range(40)]
    stay = kept([*daily, ago(0.1)], days=3, weeks=3)
    sundays = [ago(3), ago(10)]  # the last day of the two weeks before this one
    assert stay == {*daily[:3], *sundays}


@given(TIMES, SMALL, st.integers(0, 9))
def test_few_stay_and_always_the_newest(made: list[datetime], days: int, weeks: int) -> None:
    stay = kept(made, days=days, weeks=weeks)
    assert stay <= set(made) and len(stay) <= days + weeks
    assert not made or max(made) in stay


@given(TIMES, SMALL, st.integers(0, 9))
def test_what_was_rotated_is_rotated_already(made: list[datetime], days: int, weeks: int) -> None:
    stay = kept(made, days=days, weeks=weeks)
    assert kept(stay, days=days, weeks=weeks) == stay


def test_folders_of_other_names_are_not_touched(tmp_path: Path) -> None:
    old = make(tmp_path, [ago(days) for days in range(20, 25)])
    (new,) = make(tmp_path, [ago(0)])
    (tmp_path / old[0]).rename(tmp_path / "before-the-upgrade")
    (tmp_path / "2020-01-01T00-00-00").mkdir()
    gone = rotate(tmp_path, days=1, weeks=0)
    assert {path.name for path in gone} == {*old[1:]}
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {new, "before-the-upgrade", "2020-01-01T00-00-00"}


def test_a_backup_that_is_not_verified_makes_no_other_superfluous(tmp_path: Path) -> None:
    good = make(tmp_path, [ago(3), ago(2)])
    bad = make(tmp_path, [ago(1), ago(0)], verified=False)
    assert [path.name for path in rotate(tmp_path, days=2, weeks=0)] == [bad[0]]
    assert {path.name for path in tmp_path.iterdir()} == {*good, bad[1]}


def test_what_a_killed_routine_left_is_removed(tmp_path: Path) -> None:
    for name in (".auto-2026-01-01T00-00-00.77", ".auto-2026-01-01T00-00-00.gone", "mine"):
        (tmp_path / name / "adapters").mkdir(parents=True)
    clean(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
