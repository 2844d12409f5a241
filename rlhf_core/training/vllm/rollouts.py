"""The replies of a cycle, decoded by servers of vLLM.

A cycle is another process than the chat, and may use the same servers. It writes each adapter that
has to answer into a folder that the servers read, and loads it under a name that has a digest of
its weights. Invariants: weights that have changed have another name, so that a server never
answers from what it computed with earlier ones; no name is one of the chat's. Nothing here trains,
and the log-probabilities that train are never the servers' own.
"""

import asyncio
import logging
import math
import shutil
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import httpx

from rlhf_core.errors import ReplicaLostError, RLHFError
from rlhf_core.model.base_model import Base
from rlhf_core.model.decoding import Row
from rlhf_core.training.vllm.replica import Decoded, Replica, Servers

log = logging.getLogger(__name__)

WATCH_S = 1.0  # between two looks at a server that decodes
AT_ONCE = 256  # replies that a server is asked for at a time; its own batch is seldom larger


class Rollouts:
    """Decodes replies of a base and its adapters; see `Base.elsewhere`.

    Rows are spread over the servers, neighbours together, since they often have the same prompt.
    What a server had to decode when it was lost is decoded by the others. A server that is back
    gets the adapters and its share at the next call.

    Args:
        servers: They have the same model as the base.
        folder: For the adapters; the servers must be able to read it.
        owner: The data directory, in letters and digits.
        cycle: Its cycle. What earlier ones, which were killed, left on the servers is dropped.
        part: Which of the processes that train together.
    """

    def __init__(
        self, servers: Servers, folder: Path, *, owner: str, cycle: int = 0, part: int = 0
    ) -> None:
        self._servers, self._folder = servers, folder.resolve()
        self._family, self._cycle = f"rollout-{owner}-", f"rollout-{owner}-{cycle:06d}"
        self._prefix = f"{self._cycle}-{part}-"
        self._names: dict[str | None, str] = {}  # by adapter, that of its present weights

    def decode(self, base: Base, rows: Sequence[Row]) -> list[list[float]]:
        """Decode rows.

        Args:
            base: Has their adapters, and knows what ends a reply.
            rows: Get their tokens and their ends.

        Returns:
            Log-probabilities of each row's tokens and of its end, as the servers tell them; NaN
            where one tells none.

        Raises:
            ReplicaLostError: No server is left.
            AdapterError: A server refuses an adapter.
            InvalidInputError: A server refuses a prompt.
        """
        for adapter in {row.adapter for row in rows}:
            self._names[adapter] = self._written(base, adapter)
        found = asyncio.run(self._decode(base, rows))
        for row, decoded in zip(rows, found, strict=True):
            row.ids, row.finish_reason = list(decoded.ids), "length"
            if row.ids and row.ids[-1] in base.ends:
                row.end, row.finish_reason = row.ids.pop(), "stop"
        told = (decoded.logprobs or [None] * len(decoded.ids) for decoded in found)
        return [[math.nan if x is None else x for x in logprobs] for logprobs in told]

    def close(self) -> None:
        """Drop the adapters on every server that answers, and their files."""
        self._names.clear()

        async def drop() -> None:
            async with self._servers.client() as http:
                await self._ready(http, (), window=0)

        try:
            asyncio.run(drop())
        except RLHFError as exc:  # the next cycle drops what is left
            log.warning("adapters of rollouts were not unloaded: %s", exc)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _written(self, base: Base, adapter: str | None) -> str:
        """Write an adapter's present weights; returns their name, empty for the base."""
        if adapter is None:
            return ""
        name = self._prefix + base.digest(adapter)[:16]
        if not (self._folder / name).exists():
            part = self._folder / f"{name}.part"
            base.save(adapter, part)
            part.replace(self._folder / name)  # whole, or not there
        return name

    async def _decode(self, base: Base, rows: Sequence[Row]) -> list[Decoded]:
        found: dict[int, Decoded] = {}
        needed = {self._names[row.adapter] for row in rows} - {""}
        async with self._servers.client() as http:
            up = await self._ready(http, needed, window=base.reply.window)
            while left := [i for i in range(len(rows)) if i not in found]:
                cuts = pairwise(len(left) * k // len(up) for k in range(len(up) + 1))
                parts = [{i: rows[i] for i in left[start:end]} for start, end in cuts]
                asked = zip(up, parts, strict=True)
                decodes = (self._decode_on(replica, base, part, found) for replica, part in asked)
                up = _not_lost(up, await asyncio.gather(*decodes, return_exceptions=True))
        return [found[i] for i in range(len(rows))]

    async def _ready(
        self, http: httpx.AsyncClient, needed: Collection[str], *, window: int
    ) -> list[Replica]:
        """The servers that answer: with these adapters, and without ours of other weights."""
        present = set(self._names.values())

        async def prepare(replica: Replica) -> None:
            held = await replica.look()
            for name in held - present:
                earlier = name.startswith(self._family) and name[: len(self._cycle)] < self._cycle
                if earlier or name.startswith(self._prefix):
                    await replica.unload(name)
            for name in set(needed) - held:
                await replica.load(name, self._folder / name)

        every = [Replica(url, http, window=window) for url in self._servers.urls]
        ends = await asyncio.gather(*map(prepare, every), return_exceptions=True)
        up = _not_lost(every, ends)
        for path in self._folder.glob("*"):
            if path.name not in present:
                shutil.rmtree(path)
        return up

    async def _decode_on(
        self, replica: Replica, base: Base, rows: Mapping[int, Row], found: dict[int, Decoded]
    ) -> None:
        """Have a server decode rows; what it has decoded when it is lost is kept."""
        room = asyncio.Semaphore(AT_ONCE)

        async def decode(i: int, row: Row) -> None:
            """One row, when there is room for it."""
            async with room:
                found[i] = await replica.decode_whole(
                    self._names[row.adapter],
                    row.prompt_ids,
                    row.sampling,
                    seed=row.seed,
                    ends=sorted(base.ends),
                )

        async def watch() -> None:  # a server that hangs sends no error
            while True:
                await asyncio.sleep(WATCH_S)
                await replica.look()

        try:
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(watch())
                decoding = [group.create_task(decode(i, row)) for i, row in rows.items()]
                await asyncio.gather(*decoding)
                watching.cancel()
        except* RLHFError as faults:
            fault = faults.exceptions[0]  # the others follow from it
        else:
            return
        raise fault


def _not_lost(replicas: Sequence[Replica], ends: Sequence[BaseException | None]) -> list[Replica]:
    """The servers that were not lost; raises any other fault, and if none is left."""
    lost = [end for end in ends if isinstance(end, ReplicaLostError)]
    for end in ends:
        if end is not None and not isinstance(end, ReplicaLostError):
            raise end
    for reason in lost:
        log.warning("a server of vLLM is left out: %s", reason)
    if len(lost) == len(ends):
        raise ReplicaLostError(
            f"no server of vLLM is left to write a cycle's replies: {'; '.join(map(str, lost))}; "
            "start one again, then the next cycle goes on from here"
        )
    return [replica for replica, end in zip(replicas, ends, strict=True) if end is None]
