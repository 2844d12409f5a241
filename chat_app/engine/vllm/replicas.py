"""Several servers of vLLM that hold the same adapters.

Invariants: a server gets requests only while it holds every published adapter. An adapter is
published on all servers that get requests, or on none. So one that was started anew gets its
adapters first, and one that cannot is left out until it can. A server that is out does not stop a
publication. Nothing here knows replies.
"""

import asyncio
import hashlib
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from chat_app.errors import BusyError
from feedback_store.errors import say
from rlhf_core.errors import AdapterError, ReplicaLostError, RLHFError
from rlhf_core.training.vllm.replica import Replica

log = logging.getLogger(__name__)

WATCH_S = 1.0  # between two looks at every server
# A prompt that a server has read already is worth so many replies in its batch.
LEEWAY = 4


@dataclass(frozen=True, slots=True)
class Published:
    """An adapter as the servers know it.

    Attributes:
        name: On the servers. It says which weights these are, because a server may still hold some
            of the same adapter's name from another data directory.
        path: Its directory, which the servers read themselves.
    """

    name: str
    path: Path


class Replicas:
    """The servers, and the adapters that each of them has to hold."""

    def __init__(self, replicas: Sequence[Replica]) -> None:
        self.every = tuple(replicas)
        self.published: set[Published] = set()
        self._change = asyncio.Lock()  # no server comes back while an adapter is published

    @property
    def up(self) -> list[Replica]:
        """Those that get requests."""
        return [replica for replica in self.every if not replica.fault]

    async def watch(self) -> None:
        """Look at every server again and again, until cancelled."""
        await asyncio.gather(*map(self._watch, self.every))

    def choose(self, key: str, *, but: Collection[Replica] = ()) -> Replica:
        """The server for a reply.

        Rendezvous hashing gives a conversation the same one for as long as that one is there, and
        moves no other conversation when one comes or goes. A much busier one is passed over.

        Args:
            key: The same for all replies of a conversation.
            but: Servers that were tried already.

        Raises:
            BusyError: No server is left.
        """
        free = [replica for replica in self.up if replica not in but]
        if not free:
            raise BusyError(say("no server can write the reply at present; try again in a moment"))
        most = min(replica.rows for replica in free) + LEEWAY
        near = [replica for replica in free if replica.rows <= most]
        return max(
            near, key=lambda replica: hashlib.sha256(f"{key} {replica.url}".encode()).digest()
        )

    def lose(self, replica: Replica, reason: Exception) -> None:
        """Give a server no more requests until the watch finds it well."""
        if not replica.fault:
            log.warning("a server of vLLM gets no requests: %s", reason)
        replica.fault = str(reason)

    async def publish(self, adapter: Published) -> None:
        """Load an adapter on all servers that get requests, or on none.

        Raises:
            AdapterError: One refuses it.
            BusyError: One was lost meanwhile, or there is none; later it may be possible.
        """
        async with self._change:
            up = self.up
            if not up:
                raise BusyError("no server of vLLM answers; adapters are loaded once one does")
            loads = (replica.load(adapter.name, adapter.path) for replica in up)
            ends = await asyncio.gather(*loads, return_exceptions=True)
            faults = [end for end in ends if isinstance(end, BaseException)]
            if not faults:
                self.published.add(adapter)
                return
            for replica, end in zip(up, ends, strict=True):
                if isinstance(end, ReplicaLostError):
                    self.lose(replica, end)
            await self._unload(adapter.name, up)
            refused = next((end for end in faults if isinstance(end, AdapterError)), None)
            if refused is not None:
                raise refused
            raise BusyError(f"{adapter.path.name} is on no server yet: {faults[0]}") from faults[0]

    async def retire(self, adapter: Published) -> None:
        """Drop an adapter everywhere, unless it was published again meanwhile."""
        self.published.discard(adapter)
        async with self._change:
            if adapter not in self.published:
                await self._unload(adapter.name, self.up)

    async def _unload(self, name: str, replicas: Sequence[Replica]) -> None:
        """Drop an adapter where possible; where not, it is in nobody's way."""
        ends = await asyncio.gather(*(r.unload(name) for r in replicas), return_exceptions=True)
        for end in ends:
            if isinstance(end, BaseException):
                log.warning("%s was not unloaded: %s", name, end)

    async def _watch(self, replica: Replica) -> None:
        while True:
            try:
                await self._visit(replica)
            except RLHFError as exc:
                if replica.fault and replica.fault != str(exc):
                    log.warning("a server of vLLM gets no requests: %s", exc)
                self.lose(replica, exc)
            await asyncio.sleep(WATCH_S)

    async def _visit(self, replica: Replica) -> None:
        """Look at a server; one that was lost gets its adapters, and then requests again."""
        held = await replica.look()
        if not replica.fault and held >= {adapter.name for adapter in self.published}:
            return
        async with self._change:
            await replica.unload("none")  # so that a server without these routes is found out
            held = await replica.look()  # an adapter may have come or gone before it was our turn
            for adapter in tuple(self.published):
                if adapter.name not in held:
                    self.lose(replica, ReplicaLostError(f"{replica.url} was started anew"))
                    await replica.load(adapter.name, adapter.path)
            if replica.fault:
                log.info("the server of vLLM at %s gets requests", replica.url)
            replica.fault = ""
