"""What the pages use of Gradio, and its settings: the queue, the calls, no component.

Invariant: every setting of Gradio that affects what a browser may do, or what leaves this machine,
is set here, once, and a snapshot test holds it. By default Gradio turns on run history, analytics,
monitoring and verbose errors.
"""

import logging
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastapi
import gradio as gr
import gradio.queueing
import gradio.routes

log = logging.getLogger(__name__)

# For `gr.Blocks(...)`.
BLOCKS: dict[str, Any] = {
    "analytics_enabled": False,
    "delete_cache": (3600, 3600),  # seconds between sweeps, seconds a temporary file may live
}
# For `Blocks.queue(...)`. No function waits in it: each is called directly.
QUEUE: dict[str, Any] = {"max_size": 1, "api_open": False}
# For `gr.mount_gradio_app(...)`.
MOUNT: dict[str, Any] = {
    "allowed_paths": [],
    "show_error": False,
    "max_file_size": "1mb",  # no page has an upload; this limits the upload route
    "ssr_mode": False,
    "mcp_server": False,
    "pwa": False,
    "enable_monitoring": False,
    "run_history": False,
    "footer_links": [],
}
SESSIONS = 1000  # sessions whose component state the server keeps


def scrub_environment() -> None:
    """Remove ``GRADIO_*`` variables, because several of them override the settings above."""
    for name in [name for name in os.environ if name.startswith("GRADIO_")]:
        if name != "GRADIO_TEMP_DIR":
            del os.environ[name]


class _OneLine:
    """Stands for the module `traceback` inside Gradio, which prints one for every wrong event.

    Anybody can send a wrong event, and the lines of a traceback may quote what people wrote.
    """

    def __getattr__(self, name: str) -> Any:
        return getattr(traceback, name)

    def print_exc(self, *_: object, **__: object) -> None:
        """Log the kind of the present error and where it came from, in one line."""
        kind, _error, frames = sys.exc_info()
        at = traceback.extract_tb(frames)[-1] if frames else None
        place = f"{Path(at.filename).name}:{at.lineno}" if at else "unknown"
        log.warning("an event of a page failed: %s at %s", kind and kind.__name__, place)


def log_one_line_for_a_failed_event() -> None:
    """Let Gradio log a failed event in one line."""
    gradio.queueing.traceback = gradio.routes.traceback = _OneLine()  # type: ignore[assignment, attr-defined]


def attach(
    app: fastapi.FastAPI,
    blocks: gr.Blocks,
    path: str,
    *,
    user: Callable[[fastapi.Request], str | None],
    blocked: list[Path],
) -> None:
    """Mount one page with the settings above.

    Args:
        app: The application that serves everything.
        blocks: The page.
        path: Where it is served.
        user: Returns the sender of a request; it becomes ``gr.Request.username``.
        blocked: Directories that Gradio's file route must never serve.
    """
    blocks.queue(**QUEUE)
    # Gradio would keep 10,000 events, and make a table of them all after each one.
    blocks._queue.ANALYTICS_MAX_EVENTS = 1
    blocks._queue.ANAYLTICS_CACHE_FREQUENCY = sys.maxsize
    blocks.state_session_capacity = SESSIONS
    gr.mount_gradio_app(
        app,
        blocks,
        path,
        auth_dependency=user,
        blocked_paths=[str(path) for path in blocked],
        **MOUNT,
    )
