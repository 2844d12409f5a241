"""The web server: one FastAPI application with the API, the pages and the health routes.

`serve` opens the port, the data directory and the store first; if one of them fails, it stops with
one line before it loads the model. The model loads while the server already answers; `/readyz` says
when replies are possible. This module has no rules of the chat; see `service/`.
"""

import asyncio
import errno
import gc
import importlib
import logging
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from filelock import FileLock, Timeout

from chat_app import __version__
from chat_app.api.admission import Admission
from chat_app.api.bodies import BodyLimit, HeadAsGet, TimedProtocol
from chat_app.api.callers import operator
from chat_app.api.errors import add_error_handlers
from chat_app.api.logs import RequestIds
from chat_app.api.metrics import Metrics
from chat_app.api.metrics.requests import CountRequests
from chat_app.api.operator_door import OperatorDoor
from chat_app.api.origins import OwnOriginOnly
from chat_app.api.page_routes import PageRoutes
from chat_app.api.proxies import NamedProxies, is_from_here
from chat_app.api.v1.completions import completions
from chat_app.api.v1.routes import operate, router
from chat_app.api.visitors import VisitorCookie
from chat_app.cycles.alarms import AlarmWatch
from chat_app.cycles.scheduler import CycleProcess, Scheduler
from chat_app.cycles.trials import watch_trials
from chat_app.cycles.webhooks import Deliveries
from chat_app.engine import Engine
from chat_app.errors import RefusedError, StartError
from chat_app.identity import Access, Identity, is_this_machine
from chat_app.service.backups.routine import BackupSchedule
from chat_app.service.chat import ChatService
from chat_app.service.served_adapter import Watcher
from chat_app.service.upkeep import Upkeep
from chat_app.settings import Settings
from feedback_store.store import FeedbackStore
from rlhf_core.cycle.signing import signing_key

log = logging.getLogger(__name__)

# For replies in flight when the server stops; with all that follows, a stop ends before the ten
# seconds after which docker and others kill.
GRACE_SECONDS = 6
# Longer than usual proxies and clients keep a connection (nginx 60 s, Caddy 120 s). If the service
# closed it first, a request could meet the end of a connection.
KEEP_ALIVE_S = 180


def create_app(
    service: ChatService,
    identity: Identity,
    *,
    on_ready: Callable[[], None] = lambda: None,
    on_failure: Callable[[Exception], None] = lambda exc: None,
    pages: bool = True,
) -> FastAPI:
    """The application over one service; its shutdown closes the service's engine.

    ``on_ready`` is called once, when replies are possible; ``on_failure`` once, if the model cannot
    be loaded. ``pages`` mounts the web pages, which takes seconds.
    """
    schedule = service.settings.schedule
    door = OperatorDoor(identity, note=service.store.note_act)
    mounted = list[Any]()  # the pages, once they are mounted
    scheduler = Scheduler(service.store, schedule, partial(service.start_cycle, by="schedule"))

    upkeep = Upkeep(service.store, service.settings)
    alarms = AlarmWatch(service.store, service.settings, upkeep=upkeep.check)
    backups = BackupSchedule(service.store, service.settings)
    webhooks = Deliveries(service.store, service.settings.webhooks)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        """Run the watcher, the schedules and the alarms while the application serves requests."""
        watcher = Watcher(service, on_ready=on_ready, on_failure=on_failure)
        trials = watch_trials(service.store, service.settings.cycle.trial)
        tasks = [asyncio.create_task(watcher.run()), asyncio.create_task(trials)]
        if schedule.enabled:
            scheduler.begin()
        for beside in (alarms, backups, webhooks):
            beside.begin()
        yield
        if schedule.enabled:
            scheduler.end()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for pages in mounted:
            await pages.close()
        for beside in (alarms, backups, webhooks):
            await asyncio.to_thread(beside.end)
        await asyncio.to_thread(service.engine.close)

    app = FastAPI(
        title="feedback-chat",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,  # that page would load scripts from another host
        redoc_url=None,
        openapi_url="/v1/openapi.json",
    )
    app.state.service, app.state.identity, metrics = service, identity, Metrics(service)
    app.state.door = door
    _add_middleware(app, service, identity, metrics, door=door)
    app.include_router(completions)
    app.include_router(router)
    app.include_router(operate)
    _add_health(app, service, metrics)
    add_error_handlers(app)
    if pages:
        pages_of = importlib.import_module("chat_app.pages")
        mounted.append(pages_of.mount(app, service, identity, door))
    return app


def _add_middleware(
    app: FastAPI,
    service: ChatService,
    identity: Identity,
    metrics: Metrics,
    *,
    door: OperatorDoor,
) -> None:
    """What every request passes; the last one that is added sees it first."""
    settings = service.settings
    local = is_this_machine(settings.host)
    app.add_middleware(PageRoutes, identity=identity, is_operator=door.is_open)
    app.add_middleware(HeadAsGet)
    app.add_middleware(BodyLimit, limits=settings.limits)  # so that `PageRoutes` has the body
    app.add_middleware(Admission, service=service, identity=identity)
    app.add_middleware(VisitorCookie, identity=identity, forgotten=service.store.was_forgotten)
    app.add_middleware(CountRequests, measures=metrics.requests)
    app.add_middleware(OwnOriginOnly, hosts=settings.hosts, local=local, origins=settings.origins)
    app.add_middleware(NamedProxies, **_proxying(settings))
    app.add_middleware(RequestIds)


def _proxying(settings: Settings) -> dict[str, Any]:
    return settings.model_dump(include={"proxies", "root_path", "user_header"})


def _add_health(app: FastAPI, service: ChatService, metrics: Metrics) -> None:
    @app.get("/healthz")
    async def healthz() -> JSONResponse:
        """Whether the engine's thread is alive."""
        alive = service.engine.health()["alive"]
        return JSONResponse({"status": "ok" if alive else "dead"}, 200 if alive else 503)

    @app.get("/readyz")
    async def readyz() -> JSONResponse:
        """Whether replies are possible."""
        health = service.engine.health()
        ready = service.ready and health["ready"]
        facts: dict[str, Any] = {
            "ready": ready,
            "serving": service.adapter,
            "starter": service.settings.is_starter,
            "adapters": health["adapters"],
            "rows": health["rows"],
            "waiting": health["waiting"],
            "saves": service.store.saves,  # false while the disk is full; replies go on
        }
        if replicas := health.get("replicas"):  # other programs decode
            up = sum(not replica["fault"] for replica in replicas)
            facts["replicas"] = {"up": up, "of": len(replicas)}
        return JSONResponse(facts, 200 if ready else 503)

    @app.get("/metrics")
    def show_metrics(request: Request) -> Response:
        """Counters and gauges for Prometheus: on this machine, or with the operator's token."""
        if not is_from_here(request):
            operator(request)
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def serve(settings: Settings, *, announce: Callable[[str, str], None]) -> None:
    """Run the service until a signal stops it.

    Args:
        settings: The resolved options.
        announce: Called with the address and the operator's address once replies are possible.

    Raises:
        StartError: The port is taken, the host is not on this machine, or the data directory cannot
            be used.
        RefusedError: Another server uses the data directory.
        StoreOpenError: The database cannot be used.
        AdapterError: The key of the adapters cannot be used.
        ModelError: The model cannot be loaded.
    """
    with _listening_socket(settings.host, settings.port) as listener, _only_server(settings.data):
        old = settings.allow_old_sqlite
        with FeedbackStore(settings.database, allow_old_sqlite=old) as store:
            _run(settings, store, identity_of(settings, store), listener, announce)


def access_of(settings: Settings) -> Access:
    """Whom these settings let in without knowing them."""
    local = is_this_machine(settings.host)
    return Access(
        tokens=settings.access == "open" or (settings.access == "auto" and local),
        visitors=settings.pages == "anyone" or (settings.pages == "auto" and local),
        anonymous=local,
        progress=settings.progress == "public",
        kept=settings.progress == "operator",
    )


def identity_of(settings: Settings, store: FeedbackStore) -> Identity:
    """Who may come in by these settings; the store knows the keys."""
    token = settings.operator_token
    return Identity(
        settings.secrets,
        operator_token=token.get_secret_value() if token else None,
        access=access_of(settings),
        keys=store,
    )


def _run(
    settings: Settings,
    store: FeedbackStore,
    identity: Identity,
    listener: socket.socket,
    announce: Callable[[str, str], None],
) -> None:
    failures: list[Exception] = []
    # The host as a browser on this machine spells it.
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host
    address = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"

    def failed(exc: Exception) -> None:
        failures.append(exc)
        server.should_exit = True

    def ready() -> None:
        # What is loaded now stays, and a full collection that walks through it stops everything
        # for a third of a second.
        gc.collect()
        gc.freeze()
        announce(address, f"{address}/operator?token={identity.operator_token}")

    engine = engine_of(settings, signing_key(store, settings.data))
    learnt_from = settings.cycle.data
    store.let_programs_train(learnt_from.programs, share=learnt_from.programs_share)
    store.require_screening(on=settings.screening.required)
    service = ChatService(store, engine, settings, cycles=CycleProcess(store, settings))
    app = create_app(service, identity, on_ready=ready, on_failure=failed)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            http=TimedProtocol,
            ws="none",
            proxy_headers=False,  # `NamedProxies` believes the named ones alone
            timeout_keep_alive=KEEP_ALIVE_S,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
            server_header=False,
        )
    )
    server.run(sockets=[listener])
    if failures:
        raise failures[0]


def engine_of(settings: Settings, key: bytes) -> Engine:
    """The engine that these settings name; it begins to load at once."""
    seconds = settings.limits.reply_seconds
    if settings.engine.kind == "vllm":
        from chat_app.engine.vllm.engine import VllmEngine
        from rlhf_core.model.loading import load_outline

        outline = partial(load_outline, settings.model, reply=settings.reply, cache=settings.models)
        return VllmEngine(outline, settings.engine, key=key, reply_seconds=seconds)
    from chat_app.engine.local import LocalEngine
    from rlhf_core.model.loading import load_base

    load = partial(
        load_base,
        settings.model,
        quantization=settings.packing,
        reply=settings.reply,
        cache=settings.models,
    )
    return LocalEngine(load, settings.engine, key=key, reply_seconds=seconds)


def prepare_data(data: Path) -> None:
    """Make the data directory and check that it is writable.

    Raises:
        StartError: It is not.
    """
    try:
        data.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=data):
            pass
    except OSError as exc:
        raise StartError(
            f"data directory {data} cannot be written: {exc.strerror}; choose another with --data"
        ) from exc


@contextmanager
def _only_server(data: Path) -> Iterator[None]:
    """Hold the data directory's lock; the operating system frees it when the process ends."""
    prepare_data(data)
    lock = FileLock(data / "server.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as exc:
        raise RefusedError(
            f"another server uses {data}; stop it first, or choose another directory with --data"
        ) from exc
    try:
        yield
    finally:
        lock.release()


def _listening_socket(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as exc:
        listener.close()
        wrong = "--port" if exc.errno in (errno.EADDRINUSE, errno.EACCES) else "--host"
        raise StartError(
            f"cannot listen on {host}:{port}: {exc.strerror}; choose another with {wrong}"
        ) from exc
    return listener
