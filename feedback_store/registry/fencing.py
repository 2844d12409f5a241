"""The fence: a cycle that has ended writes no more, whoever ended it.

A cycle's process may sleep through its own end: it is stopped, or the machine is, and meanwhile
somebody cancels the cycle, or another one takes its place. Every write of a cycle calls this in its
own transaction, so nothing can come between the question and the write.
"""

from sqlite_utils import Database

from feedback_store.errors import CycleEndedError
from feedback_store.sqlite.rows import require


def require_running(db: Database, cycle_id: int) -> None:
    """Refuse a write of a cycle that does not run any more.

    Raises:
        CycleEndedError: Its row says that it has ended.
    """
    state = require(db, "cycles", cycle_id)["state"]
    if state != "running":
        raise CycleEndedError(
            f"cycle {cycle_id} has ended ({state}) and may write nothing more; "
            "`feedback-chat status` tells what runs or was served since."
        )
