"""Raters: how far they agree, how reliable and how fast each is, quarantine and release."""

from dataclasses import dataclass

from chat_app.handlers.operate.guarded import require
from chat_app.identity import OPERATOR
from chat_app.service.chat import ChatService
from feedback_store.errors import Sentence, say
from feedback_store.raters.agreement import Agreement
from feedback_store.raters.reliability import RaterReport
from feedback_store.raters.standing import RaterStanding

MOST = 200  # raters that the page shows


@dataclass(frozen=True, slots=True)
class RaterView:
    """One rater: how much they count, and what an assessment would find now.

    `found` is why a measurement would quarantine the rater, and `notes` what else it sees. Without
    `kind_trains` the rater is a program whose kind trains nothing.
    """

    id: str
    kind: str
    kind_trains: bool
    created_at: str
    said: float
    weight: float
    reliability: float
    counts_as_one: int
    quarantined_at: str | None
    decided_by: str | None
    reason: str | None
    votes: int
    agreement: float | None
    gold_right: int
    gold_total: int
    left_share: float | None
    fast_share: float | None
    found: str | None
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RatersView:
    """The agreement of all, and the raters: those in quarantine first, then who said most."""

    agreement: Agreement
    raters: tuple[RaterView, ...]
    all: int
    quarantined: int


class People:
    """The raters of a service."""

    def __init__(self, service: ChatService) -> None:
        self._service = service

    def raters(self, search: str = "", *, allowed: bool) -> RatersView:
        """The raters whose id has a text in it; measured anew, which changes nothing."""
        require(allowed)
        store = self._service.store
        measured = {report.rater_id: report for report in store.measure_raters()}
        standing = store.raters()
        found = [one for one in standing if search.strip().lower() in one.id.lower()]
        found.sort(key=lambda one: (one.quarantined_at is None, -one.said, one.id))
        return RatersView(
            agreement=store.agreement(),
            raters=tuple(_view(one, measured.get(one.id)) for one in found[:MOST]),
            all=len(standing),
            quarantined=sum(one.quarantined_at is not None for one in standing),
        )

    def quarantine(
        self, rater_id: str, reason: str, *, allowed: bool, by: str = OPERATOR
    ) -> Sentence:
        """Do not learn from a rater until the rater is released."""
        require(allowed)
        self._service.store.quarantine(rater_id, by=by, reason=reason.strip())
        return say(
            "{id} is in quarantine. What they said trains nothing until you release them.",
            id=rater_id,
        )

    def release(self, rater_id: str, *, allowed: bool, by: str = OPERATOR) -> Sentence:
        """End a quarantine; what the rater did before does not count against them again."""
        require(allowed)
        self._service.store.release(rater_id, by=by)
        return say("{id} is released and counts again.", id=rater_id)

    def assess(self, *, allowed: bool, by: str = OPERATOR) -> Sentence:
        """Measure every rater, and quarantine as the rules say."""
        require(allowed)
        reports = self._service.store.assess_raters(by=by)
        held = sum(report.quarantine is not None for report in reports)
        return say(
            "{n} raters were assessed; the rules put {held} of them in quarantine.",
            one="{n} rater was assessed; the rules put {held} of them in quarantine.",
            n=len(reports),
            held=held,
        )


def _view(one: RaterStanding, report: RaterReport | None) -> RaterView:
    return RaterView(
        id=one.id,
        kind=one.kind,
        kind_trains=one.kind_trains,
        created_at=one.created_at,
        said=one.said,
        weight=one.weight,
        reliability=one.reliability,
        counts_as_one=one.counts_as_one,
        quarantined_at=one.quarantined_at,
        decided_by=one.decided_by,
        reason=one.reason if one.quarantined_at else None,
        votes=report.votes if report else 0,
        agreement=report.agreement if report else None,
        gold_right=one.gold_right,
        gold_total=one.gold_total,
        left_share=report.left_share if report else None,
        fast_share=report.fast_share if report else None,
        found=report.quarantine if report else None,
        notes=report.notes if report else (),
    )
