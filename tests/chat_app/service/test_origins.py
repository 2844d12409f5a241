"""Origins wait in memory until a new rater does something."""

import pytest

from chat_app.service import rates
from chat_app.service.origins import Origins


def test_an_origin_stays_for_requests_that_come_together() -> None:
    known = Origins()
    known.note("ann", "5ec2e7")
    assert [known.of("ann"), known.of("ann"), known.of("bob")] == ["5ec2e7", "5ec2e7", None]


def test_only_the_latest_origins_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "KEPT", 2)
    known = Origins()
    for rater in ("ann", "bob", "ann", "eve"):
        known.note(rater, f"of {rater}")
    assert [known.of(rater) for rater in ("ann", "bob", "eve")] == ["of ann", None, "of eve"]
