"""New replies use the adapter that the store names as served, and those of its open trial.

With the setting `choices = "active"` the engine follows the newest reward model, too. Only the
`Watcher` sets `ChatService.adapter` and `ChatService.trial`. Invariant: their adapters are
loaded, so no reply fails because of a swap. The swap waits for no reply: `engine/local.py` drops an
old adapter once no reply uses it. If an adapter cannot be verified or loaded, the watcher sets the
store's row back to another one, as if the damaged one had never been served; a trial of it is
stopped. An alarm has the reason, the store's audit table the entry.
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from chat_app.errors import BusyError
from chat_app.service.chat import ChatService
from feedback_store.errors import FeedbackStoreError
from feedback_store.records import BASE_ADAPTER, Alarm, ServedBase, Serving
from rlhf_core.reward.acquisition import FILE

log = logging.getLogger(__name__)


class Watcher:
    """Follows the served adapter; it reads the store every ``watch_seconds``.

    Args:
        service: Its `adapter` and `ready` are set.
        on_ready: Called once, when the model and the served adapter are loaded.
        on_failure: Called once, if the model cannot be loaded.
    """

    def __init__(
        self,
        service: ChatService,
        *,
        on_ready: Callable[[], None],
        on_failure: Callable[[Exception], None],
    ) -> None:
        self._service = service
        self._on_ready = on_ready
        self._on_failure = on_failure
        self._doubts_of = ""  # the reward model that was loaded last, or could not be
        self._bad: set[str] = set()  # what did not load since something did
        self._recent: list[str] = []  # loaded adapters, the latest at the end

    async def run(self) -> None:
        """Watch until cancelled, or until the model fails to load."""
        while True:
            health = self._service.engine.health()
            if health["failure"] is not None:
                self._on_failure(health["failure"])
                return
            if health["ready"]:
                try:
                    serving = await asyncio.to_thread(self._service.store.serving)
                    if serving.adapter != self._service.adapter or not self._service.ready:
                        await self._follow(serving)
                    await self._follow_trial()
                    await self._follow_opponents()
                    if self._service.settings.choices == "active":
                        await self._follow_reward()
                except (FeedbackStoreError, BusyError):
                    log.exception("the served adapter cannot be followed; the present one stays")
            await asyncio.sleep(self._service.settings.watch_seconds)

    async def _follow(self, serving: Serving) -> None:
        name = serving.adapter
        try:
            await self._load(name)
        except BusyError:
            raise  # the engine has stopped: no fault of the adapter
        except Exception as exc:  # any error; the watcher must live to follow the next swap
            await self._fall_back(serving, exc)
            return
        log.info("new replies come from %s", name)
        self._bad.clear()  # a damaged one may be repaired by the time it is wanted again
        self._service.adapter = name
        if not self._service.ready:
            await asyncio.to_thread(self._note_base)
            self._service.ready = True
            self._on_ready()
        await self._drop_old()

    async def _follow_trial(self) -> None:
        """Let side-by-sides show the two adapters of the open trial, once both are loaded."""
        trial = await asyncio.to_thread(self._service.store.open_trial)
        if trial == self._service.trial:
            return
        self._service.trial = None
        if trial is not None:
            try:
                for name in (trial.adapter, trial.other):
                    await self._load(name)
            except BusyError:
                raise
            except Exception as exc:
                log.error("the %s of %s is stopped: %s", trial.kind, trial.adapter, exc)
                stop = partial(self._service.store.end_trial, by="server: it does not load")
                await asyncio.to_thread(stop, trial.id, "stopped", str(exc))
                text = f"the {trial.kind} of {trial.adapter} was stopped: {exc}"
                await self._alarm(Alarm("failed", text), f"trial {trial.id}")
                return
            log.info("people compare %s with %s", trial.adapter, trial.other)
        self._service.trial = trial
        await self._drop_old()

    async def _follow_opponents(self) -> None:
        """Load whom people may compare with: the base, and the newest published adapters.

        One that does not load is left out until another one does.
        """
        allowed = self._service.settings.compare.opponents
        names = [BASE_ADAPTER] if allowed != "none" else []
        if allowed == "adapters":
            policies = await asyncio.to_thread(self._service.store.adapters, "policy")
            sound = [p.name for p in policies if p.state == "published" and p.tainted_at is None]
            others = {BASE_ADAPTER, self._service.adapter}
            newest = [name for name in reversed(sound) if name not in others]
            names += newest[: self._service.settings.engine.kept_adapters - 1]
        out = {self._service.adapter, *self._bad}
        wanted = tuple(name for name in names if name not in out)
        if wanted == self._service.opponents:
            return
        self._service.opponents = tuple(n for n in self._service.opponents if n in wanted)
        loaded = []
        for name in wanted:
            try:
                await self._load(name)
            except BusyError:
                raise
            except Exception as exc:
                log.error("nobody can compare with %s: %s", name, exc)
                self._bad.add(name)
            else:
                loaded.append(name)
        self._service.opponents = tuple(loaded)
        await self._drop_old()

    async def _follow_reward(self) -> None:
        """Ask the newest reward model which replies it is uncertain about; an old one stays.

        One that learnt from somebody who was forgotten is asked no more.
        """
        models = await asyncio.to_thread(self._service.store.adapters, "reward")
        names = [model.name for model in models if model.tainted_at is None]
        if self._doubts_of and self._doubts_of not in names:
            self._service.engine.drop_doubts()
            self._doubts_of = ""
        if not names or names[-1] == self._doubts_of:
            return
        self._doubts_of = name = names[-1]
        folder = self._service.settings.adapters / name
        if not (folder / FILE).exists():
            log.info("lots choose which replies are shown until the next cycle has trained")
            return
        try:
            await self._service.engine.load_doubts(folder)
        except Exception as exc:
            log.error("lots choose which replies are shown, or an older reward model: %s", exc)
        else:
            log.info("replies are shown of which %s is uncertain", name)

    async def _load(self, name: str) -> None:
        if name != BASE_ADAPTER:
            await self._service.engine.load(name, self._service.settings.adapters / name)
            self._recent = [*(other for other in self._recent if other != name), name]

    async def _drop_old(self) -> None:
        """Keep the last few adapters loaded, so that a rollback is quick, and those in use."""
        trial = self._service.trial
        used = {self._service.adapter, *((trial.adapter, trial.other) if trial else ())}
        used.update(self._service.opponents)
        old = [name for name in self._recent if name not in used]
        for name in old[: max(0, len(self._recent) - self._service.settings.engine.kept_adapters)]:
            self._recent.remove(name)
            await self._service.engine.unload(name)

    def _note_base(self) -> None:
        """Write which base answers, and how; a cycle of another one is refused."""
        store, settings = self._service.store, self._service.settings
        before, model = store.base(), settings.model_name
        if before is not None and before.model != model:
            log.warning(
                "the server of this data directory answered with model %r before, and now with %r. "
                "Votes on the old model's replies will train the new one, and the old adapters do "
                "not fit it. For a fresh start use another --data",
                before.model,
                model,
            )
        fingerprint = self._service.engine.health().get("base")
        store.note_base(ServedBase(model, settings.contract, fingerprint))

    async def _fall_back(self, serving: Serving, reason: Exception) -> None:
        """Write another adapter into the served row: the first that is not known to be bad."""
        self._bad.add(serving.adapter)
        now = await asyncio.to_thread(
            self._service.store.fall_back,
            frozenset(self._bad),
            prefer=self._service.adapter if self._service.ready else None,
            by=f"server: {serving.adapter} does not load",
        )
        text = f"{serving.adapter} is not served: {reason}; serving {now.adapter} instead"
        log.error(text)
        await self._alarm(Alarm("rolled_back", text), f"{serving.adapter} since {serving.since}")

    async def _alarm(self, alarm: Alarm, key: str) -> None:
        await asyncio.to_thread(self._service.store.raise_alarm, alarm, key=key)
