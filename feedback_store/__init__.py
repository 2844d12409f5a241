"""What people said, durably: the store of conversations, feedback, adapters and cycles."""

from feedback_store.comparisons.across_raters import pair_across_raters
from feedback_store.comparisons.amount import EvidenceAmount, Said, amount_of
from feedback_store.datasets.exports import ExportReport
from feedback_store.datasets.imports import ImportReport
from feedback_store.datasets.trl_rows import ExportOptions
from feedback_store.errors import (
    ConflictError,
    CycleEndedError,
    CycleInProgressError,
    FeedbackStoreError,
    InvalidFeedbackError,
    StoreOpenError,
    StoreUnavailableError,
    UnknownRecordError,
)
from feedback_store.records import (
    BASE_ADAPTER,
    Adapter,
    Alarm,
    CandidateReply,
    Choice,
    Conversation,
    Cycle,
    Message,
    OpinionRow,
    PromptMessage,
    RaisedAlarm,
    Ranking,
    Rater,
    Retry,
    ServedBase,
    Serving,
    StoredComparison,
    StoredDemonstration,
    StoredUnpaired,
    Thumb,
    Trial,
)
from feedback_store.splits import split_of
from feedback_store.store import FeedbackStore

__all__ = [
    "Adapter",
    "Alarm",
    "BASE_ADAPTER",
    "CandidateReply",
    "Choice",
    "ConflictError",
    "Conversation",
    "Cycle",
    "CycleEndedError",
    "CycleInProgressError",
    "EvidenceAmount",
    "ExportOptions",
    "ExportReport",
    "FeedbackStore",
    "FeedbackStoreError",
    "ImportReport",
    "InvalidFeedbackError",
    "Message",
    "OpinionRow",
    "PromptMessage",
    "RaisedAlarm",
    "Ranking",
    "Rater",
    "Retry",
    "Said",
    "ServedBase",
    "Serving",
    "StoreOpenError",
    "StoreUnavailableError",
    "StoredComparison",
    "StoredDemonstration",
    "StoredUnpaired",
    "Thumb",
    "Trial",
    "UnknownRecordError",
    "amount_of",
    "pair_across_raters",
    "split_of",
]
