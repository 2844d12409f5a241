"""What people said, durably: the store of conversations, feedback, adapters and cycles."""

from feedback_store.comparisons import Evidence, derive_comparisons, normalised, split_of
from feedback_store.errors import (
    ConflictError,
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
    CandidateReply,
    ChatMessage,
    Choice,
    Comparison,
    Conversation,
    Cycle,
    Demonstration,
    Message,
    Ranking,
    Rater,
    Serving,
    Thumb,
)
from feedback_store.store import FeedbackStore

__all__ = [
    "Adapter",
    "BASE_ADAPTER",
    "CandidateReply",
    "ChatMessage",
    "Choice",
    "Comparison",
    "ConflictError",
    "Conversation",
    "Cycle",
    "CycleInProgressError",
    "Demonstration",
    "Evidence",
    "FeedbackStore",
    "FeedbackStoreError",
    "InvalidFeedbackError",
    "Message",
    "Ranking",
    "Rater",
    "Serving",
    "StoreOpenError",
    "StoreUnavailableError",
    "Thumb",
    "UnknownRecordError",
    "derive_comparisons",
    "normalised",
    "split_of",
]
