"""`FeedbackStore`: everything that people said and every adapter and cycle, in one SQLite file.

Several processes may open the same file, and several threads may share one store. When a method
returns, what it wrote is on disk; when it raises, nothing is. Each part is a class in a module of
its own: what people said in `feedback/`, what becomes of it in `comparisons/` and `training_data`,
how much each rater counts in `raters/`, files in and out in `datasets/`, forgetting in `privacy/`,
adapters and cycles in `registry/`, operations in `backups` and `sqlite/`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from feedback_store.backups import Backups
from feedback_store.comparisons.leaving_out import LeavingOut
from feedback_store.comparisons.receipts import Receipts
from feedback_store.datasets.event_files import EventFiles
from feedback_store.datasets.evidence_copy import EvidenceCopies
from feedback_store.datasets.exports import Exports
from feedback_store.datasets.imports import Imports
from feedback_store.datasets.returned_cycles import ReturnedCycles
from feedback_store.errors import StoreOpenError
from feedback_store.feedback.browsing import Browsing
from feedback_store.feedback.client_votes import ClientVotes
from feedback_store.feedback.conversation_list import ConversationList
from feedback_store.feedback.demonstrations import Demonstrations
from feedback_store.feedback.events import Events
from feedback_store.feedback.gold_questions import GoldQuestions
from feedback_store.feedback.retries import Retries
from feedback_store.feedback.search import Search
from feedback_store.feedback.withdrawals import Withdrawals
from feedback_store.privacy.copies import Copies
from feedback_store.privacy.forgetting import Privacy
from feedback_store.raters.judging.judges import Judges
from feedback_store.raters.keys import Keys
from feedback_store.raters.programs import Programs
from feedback_store.raters.screening import Screening
from feedback_store.raters.standing import Raters
from feedback_store.raters.whose import Whose
from feedback_store.registry.adapters import Adapters
from feedback_store.registry.alarms import Alarms
from feedback_store.registry.audit_log import AuditLog
from feedback_store.registry.cycles import Cycles
from feedback_store.registry.feed import Feed
from feedback_store.registry.serving import ServedAdapter
from feedback_store.registry.trials import Trials
from feedback_store.registry.versions import Versions
from feedback_store.sqlite.database import SQLiteFile
from feedback_store.sqlite.health import Health
from feedback_store.training_data import TrainingData


class FeedbackStore(
    Judges,
    GoldQuestions,
    ConversationList,
    Events,
    ClientVotes,
    Demonstrations,
    Retries,
    Withdrawals,
    LeavingOut,
    TrainingData,
    Receipts,
    EventFiles,
    Exports,
    Imports,
    EvidenceCopies,
    ReturnedCycles,
    Copies,
    Privacy,
    Raters,
    Whose,
    Programs,
    Screening,
    Keys,
    Adapters,
    ServedAdapter,
    Versions,
    Trials,
    Cycles,
    Alarms,
    Feed,
    AuditLog,
    Search,
    Browsing,
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

    @contextmanager
    def together(self) -> Iterator[None]:
        """Save what a block writes by other methods as one transaction, or nothing of it.

        Reads in the block see it. The block must be short, and not wait for a thread that writes.
        """
        with self._file.write():
            yield

    def close(self) -> None:
        """Close the file; the store cannot be used afterwards."""
        self._file.close()
