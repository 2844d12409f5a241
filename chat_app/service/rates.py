"""How much one rater, or one address, may ask for in a time.

Token buckets: a bucket holds so many units, refills evenly, and whoever finds too few learns when
to come again. Nothing here waits or stores, and a restart fills every bucket. Simulated visitors of
this machine are not limited.
"""

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from math import ceil, inf
from typing import TypeVar

from chat_app.errors import BusyError, TooManyError
from chat_app.identity import KNOWN
from chat_app.settings import RateSettings
from feedback_store.errors import Sentence, say

KEPT = 20_000
Kept = TypeVar("Kept")


class Latest(OrderedDict[str, Kept]):
    """What was set last, under names that callers choose: `KEPT` of it, then the oldest one goes.

    A limit that is forgotten in this way begins anew. Threads may share one.
    """

    def __setitem__(self, name: str, value: Kept) -> None:
        super().__setitem__(name, value)
        self.move_to_end(name)
        if len(self) > KEPT:
            self.popitem(last=False)


class Buckets:
    """One bucket for each key.

    Args:
        size: Units in a full bucket.
        seconds: Time in which an empty one gets full.
        now: A clock, in seconds.
    """

    def __init__(
        self, size: float, seconds: float, *, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._size, self._rate, self._now = size, size / seconds, now
        self._levels = Latest[tuple[float, float]]()  # units, and when
        self._lock = threading.Lock()

    def take(self, key: str, units: float = 1.0, *, at_least: float | None = None) -> float:
        """Take units out of a bucket; returns 0, or the seconds until there are enough.

        With ``at_least`` so many must be there, and the level may fall below zero: for what is only
        known afterwards.
        """
        needed = units if at_least is None else at_least
        with self._lock:
            level, now = self._level(key), self._now()
            if level < needed:
                return (needed - level) / self._rate
            self._levels[key] = (level - units, now)
        return 0.0

    def _level(self, key: str) -> float:
        units, then = self._levels.get(key, (self._size, self._now()))
        return min(self._size, units + self._rate * (self._now() - then))


class Rates:
    """The limits in force.

    Args:
        settings: Of each rater and address.
        room: Replies that may be written or wait at once, of all raters together.
    """

    def __init__(self, settings: RateSettings, *, room: int) -> None:
        self._settings, self._room = settings, room
        self._requests = Buckets(settings.requests_per_minute / 2, 30.0)
        # what an address asks at once all others wait for: a class that opens the page is enough
        self._of_address = Buckets(settings.address_requests_per_minute / 6, 10.0)
        self._votes = Buckets(settings.votes_per_minute, 60.0)
        self._tokens = Buckets(settings.tokens_per_minute, 60.0)
        self._new = Buckets(settings.new_raters_per_hour, 3600.0)
        self._writing: Counter[str] = Counter()  # replies, by rater
        self._of_source: Counter[str] = Counter()  # the same, by source
        self._networks = Latest[str]()  # by rater
        self._admitted = Latest[None]()  # new raters that were counted
        self._unlimited: set[str] = set()
        self._lock = threading.Lock()

    def exempt(self, rater_id: str) -> None:
        """Limit a simulated visitor of this machine no more."""
        self._unlimited.add(rater_id)

    def address(self, network: str, *, replies: bool = False) -> None:
        """Count one request of an address, before anything else is asked about it.

        One for replies is refused here if the address leaves no room for them (see `reserve`).

        Raises:
            TooManyError: As in all methods: the rater, or the address, has to wait.
            BusyError: There is no room.
        """
        _refuse(self._of_address.take(network), say("requests from your address"))
        if replies:
            with self._lock:
                self._require_room(network, 1)

    def request(self, rater_id: str, network: str) -> None:
        """Count one request of a rater, who comes from this address."""
        self._networks[rater_id] = network
        _refuse(self._requests.take(rater_id), say("requests"))

    def new_rater(self, rater_id: str, address: str) -> None:
        """Count a rater who is not known yet, once."""
        with self._lock:  # requests of one new rater may come together
            if rater_id in self._admitted or rater_id in self._unlimited:
                return
            _refuse(self._new.take(address), say("new visitors from your address"))
            self._admitted[rater_id] = None

    def vote(self, rater_id: str) -> None:
        """Count one vote or rewritten answer."""
        if rater_id not in self._unlimited:
            _refuse(self._votes.take(rater_id), say("votes"))

    def source(self, rater_id: str) -> str:
        """On whose account a rater's replies are: names are free, so their address is asked."""
        if rater_id in self._unlimited or rater_id.startswith(KNOWN):
            return rater_id
        return self._networks.get(rater_id, rater_id)

    def reserve(self, rater_id: str, n: int = 1) -> Callable[[], None]:
        """Keep count of replies from now until the returned function is called.

        One request of a rater is not too many, if there is room. A source never takes more than it
        leaves free, so the next one finds room (dynamic thresholds: Choudhury and Hahne 1998,
        equation 1 with alpha = 1).

        Raises:
            BusyError: There is no room.
        """
        most, source = self._settings.replies_at_once, self.source(rater_id)
        with self._lock:
            self._require_room(source, n)
            if rater_id not in self._unlimited:
                writing = self._writing[rater_id]
                if writing and writing + n > most:
                    raise TooManyError(
                        say(
                            "{n} replies are being written for you already, and {most} may be; "
                            "wait until one ends",
                            one="a reply is being written for you already, and {most} may be; "
                            "wait until it ends",
                            n=writing,
                            most=most,
                        ),
                        seconds=1.0,
                    )
                _refuse(self._tokens.take(rater_id, 0.0, at_least=1.0), say("tokens"))
            self._writing[rater_id] += n
            self._of_source[source] += n
        left = [n]

        def release() -> None:
            """Count them no more; a second call does nothing."""
            with self._lock:
                ended = left.pop() if left else 0
                for writing, key in ((self._writing, rater_id), (self._of_source, source)):
                    writing[key] -= ended
                    if not writing[key]:
                        del writing[key]

        return release

    @property
    def calm(self) -> bool:
        """Whether no reply is being written, or waits, for anybody who asked for it."""
        with self._lock:
            return not self._of_source

    def _require_room(self, source: str, n: int) -> None:
        taken, all_taken = self._of_source[source], self._of_source.total()
        free = self._room - all_taken
        if all_taken and (n > free or (taken and taken + n > free)):
            raise BusyError(say("too many requests are waiting already; try again in a moment"))

    def tokens(self, rater_id: str, tokens: int) -> None:
        """Count what a reply has read and written, once that is known."""
        if rater_id not in self._unlimited:
            self._tokens.take(rater_id, tokens, at_least=-inf)


def _refuse(seconds: float, what: Sentence) -> None:
    if seconds:
        text = say("too many {what}; try again in {seconds} s", what=what, seconds=ceil(seconds))
        raise TooManyError(text, seconds=seconds)
