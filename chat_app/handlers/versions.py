"""What people are told about who answers: version 2, since when, and how its test went.

Adapters have names for operators; a version is an adapter that was served, by a number.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from feedback_store.store import FeedbackStore


@dataclass(frozen=True, slots=True)
class Version:
    """The version that answers now.

    Attributes:
        number: From 1, which is the starting policy.
        adapter: Its name for operators.
        since: When it began to answer; after a rollback, when it came back.
        preferred: In what share of the tests of its round it was preferred, by the gate's reward
            model; None for version 1, and where no test is known.
    """

    number: int
    adapter: str
    since: str
    preferred: float | None = None


def served_version(store: FeedbackStore) -> Version:
    """The version that new replies come from."""
    serving = store.serving()
    return Version(
        number=store.versions()[serving.adapter],
        adapter=serving.adapter,
        since=serving.since,
        preferred=preferred(store, serving.adapter),
    )


def preferred(store: FeedbackStore, adapter: str) -> float | None:
    """The win rate that the gate measured of an adapter; None if it did not."""
    cycle = store.adapter(adapter).cycle_id
    return None if cycle is None else store.cycle(cycle).metrics.get("win_rate")


def named(versions: Mapping[str, int], adapter: str) -> int | str:
    """The number of a version; of an adapter that was never served, its name.

    Args:
        versions: `FeedbackStore.versions`.
        adapter: A policy adapter.
    """
    return versions.get(adapter, adapter)
