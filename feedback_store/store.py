"""`FeedbackStore`: everything that people said and every adapter and cycle, in one SQLite file.

Several processes may open the same file, and several threads may share one store. What a method has
returned is on disk; what has raised is not. The parts are in modules of their own, a class each:
`conversations` (raters and messages) with `hidden_tests`, `events` (feedback), `learning` and
`receipts` (what becomes of it), `raters` (who counts how much), `exchange`, `exports` and `imports`
(in and out), `privacy` and `search`, `registry` (adapters and cycles), `backups` and `health`
(operations).
"""

from pathlib import Path
from types import TracebackType
from typing import Self

from feedback_store.backups import Backups
from feedback_store.database import SQLiteFile
from feedback_store.errors import StoreOpenError
from feedback_store.events import Events
from feedback_store.exchange import Exchange
from feedback_store.exports import Exports
from feedback_store.health import Health
from feedback_store.hidden_tests import HiddenTests
from feedback_store.imports import Imports
from feedback_store.learning import Learning
from feedback_store.privacy import Privacy
from feedback_store.raters import Raters
from feedback_store.receipts import Receipts
from feedback_store.registry import Registry
from feedback_store.search import Search


class FeedbackStore(
    HiddenTests,
    Events,
    Learning,
    Receipts,
    Exchange,
    Exports,
    Imports,
    Privacy,
    Raters,
    Registry,
    Search,
    Backups,
    Health,
):
    """The store in the file `path`, made if it is not there.

    Raises:
        StoreOpenError: The file cannot be used; the message says why and what to do.
    """

    def __init__(self, path: Path | str, *, allow_old_sqlite: bool = False) -> None:
        if str(path) == ":memory:":
            raise StoreOpenError("a store in memory would not last; give the path of a file.")
        self._file = SQLiteFile(Path(path), allow_old_sqlite=allow_old_sqlite)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; the store cannot be used afterwards."""
        self._file.close()
