"""From where raters come who are not in the store yet.

A request shows its address before anything is stored; what a rater does first may come later, from
a page's event that knows no address. In between the origin is kept here, in memory.
"""

import threading

from chat_app.service.rates import Latest


class Origins:
    """The origins of the latest new raters."""

    def __init__(self) -> None:
        self._origins = Latest[str | None]()
        self._lock = threading.Lock()

    def note(self, rater_id: str, origin: str | None) -> None:
        """Note from where a new rater comes."""
        with self._lock:
            self._origins[rater_id] = origin

    def of(self, rater_id: str) -> str | None:
        """The origin of a rater who was noted.

        It stays, because requests of one new rater may come together and the first one stores it.
        """
        with self._lock:
            return self._origins.get(rater_id)
