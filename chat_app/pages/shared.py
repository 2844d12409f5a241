"""What both pages share: the security settings of Gradio, the theme and the style sheet.

Invariant: every Gradio setting that affects what a browser may do, or what leaves this machine, is
set here, once, and a snapshot test holds it. By default Gradio turns on run history, analytics,
monitoring and verbose errors. Only the browser enforces its component limits, so the handlers check
lengths and rights themselves. The layout of each page is in its own file.
"""

import asyncio
import logging
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import fastapi
import gradio as gr
import gradio.queueing
import gradio.routes

log = logging.getLogger(__name__)

STREAMS_AT_ONCE = 64  # event handlers that may run at the same time on one page

# For `gr.Blocks(...)`.
BLOCKS: dict[str, Any] = {
    "analytics_enabled": False,
    "delete_cache": (3600, 3600),  # seconds between sweeps, seconds a temporary file may live
    "fill_height": True,
    "fill_width": True,
}
# For `Blocks.queue(...)`. A full queue refuses at once, so that people do not wait in vain.
QUEUE: dict[str, Any] = {
    "max_size": 64,
    "api_open": False,
    "default_concurrency_limit": STREAMS_AT_ONCE,
}
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
UNREAD_CHECK_S = 10.0  # between looks for results that nobody fetches
UNREAD_RESULTS = 500  # of one session, at which a reader does not read; a stream has ten a second
SESSIONS = 1000  # sessions whose component state the server keeps
# For every event: leave it out of the API description. This is no access control; see handlers.
EVENT: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}

SANS = ("ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Consolas", "monospace")


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


def theme() -> gr.themes.Base:
    """A theme with system fonts, so that no page loads anything from another host."""
    return gr.themes.Default(
        primary_hue="teal",
        secondary_hue="teal",
        neutral_hue="slate",
        radius_size="lg",
        font=SANS,
        font_mono=MONO,
    ).set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        input_placeholder_color="*neutral_500",
        block_border_width="0px",
        block_shadow="none",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_600",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_600",
        button_primary_text_color="white",
        button_large_text_weight="500",
        button_medium_text_weight="500",
        button_small_text_weight="500",
    )


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
    blocks.state_session_capacity = SESSIONS
    gr.mount_gradio_app(
        app,
        blocks,
        path,
        auth_dependency=user,
        blocked_paths=[str(path) for path in blocked],
        theme=theme(),
        css=CSS,
        **MOUNT,
    )


async def drop_unread(pages: Sequence[gr.Blocks], is_unread: Callable[[str], bool]) -> None:
    """Drop results that nobody fetches, for ever: Gradio keeps each, with all that was sent."""
    while True:
        await asyncio.sleep(UNREAD_CHECK_S)
        for page in pages:
            queue = page._queue
            waiting = queue.pending_messages_per_session
            for session in list(waiting):
                if not is_unread(session) and waiting[session].qsize() <= UNREAD_RESULTS:
                    continue
                await queue.clean_events(session_hash=session)
                queue.pending_messages_per_session.pop(session, None)
                queue.pending_event_ids_session.pop(session, None)


CSS = """
.gradio-container { --line: var(--border-color-primary); }
.page { max-width: 920px; margin: 0 auto; width: 100%; }
.wide { max-width: 1180px; margin: 0 auto; width: 100%; }
.bar { display: flex; flex-wrap: wrap; gap: .5rem; align-items: center; }
.bar h1 { font-size: 1.15rem; font-weight: 650; margin: 0 auto 0 0; letter-spacing: -.01em; }
.pill { border: 1px solid var(--line); border-radius: 999px; padding: .15rem .7rem;
  font-size: .82rem; color: var(--body-text-color-subdued);
  background: var(--block-background-fill); }
.pill b { color: var(--body-text-color); font-weight: 600; }
.card { border: 1px solid var(--line); border-radius: 14px; padding: 14px 16px !important;
  background: var(--block-background-fill); gap: 10px !important; flex-grow: 0 !important; }
.card .block { background: none; padding: 0; }
.card .form { border: 0; background: none; gap: 10px; }
.actions { justify-content: flex-start; gap: 8px !important; }
.actions button { flex: 0 1 auto !important; }
.html-container { padding: 0 !important; }
.quiet { color: var(--body-text-color-subdued); font-size: .88rem; margin: 0; }
:focus-visible { outline: 2px solid var(--color-accent) !important; outline-offset: 2px; }
/* chat */
#chat { height: calc(100dvh - 250px) !important; min-height: 260px; border: 1px solid var(--line);
  border-radius: 14px; }
.page:has(#notice) #chat { height: calc(100dvh - 420px) !important; }
.page:has(#pair) #chat, .page:has(#panel) #chat, .page:has(#asked) #chat {
  height: 40dvh !important; }
#pair .card, #asked .card { flex-grow: 1 !important; }
#chat button[aria-label="Clear"] { display: none; }  /* would clear the page but not the store */
#chat .placeholder { text-align: center; }
#chat .message-markdown-disabled, .said { white-space: pre-wrap !important;
  overflow-wrap: anywhere; }
#chat .example { border: 1px solid var(--line); border-radius: 12px; }
#sidebar .block, #sidebar .form { background: none; border: 0; }
#conversations { padding: 0; }
#conversations .wrap { flex-direction: column; gap: 2px; max-height: 46vh; overflow-y: auto;
  flex-wrap: nowrap; }
#conversations label { width: 100%; border: 0; background: none; box-shadow: none;
  padding: .4rem .6rem; flex-shrink: 0; }
#conversations label.selected { background: var(--color-accent-soft); }
#conversations label input { position: absolute; opacity: 0; }
#conversations label:has(input:focus-visible) { outline: 2px solid var(--color-accent); }
#conversations label span { margin: 0; white-space: nowrap; overflow: hidden;
  text-overflow: ellipsis; }
#composer { overflow: visible; border: 1px solid var(--line); border-radius: 12px; }
#composer textarea { border-radius: 12px; background: var(--block-background-fill); }
#note:not(:has(p:not(:empty))) { display: none; }
/* operator */
.stats { display: grid; grid-template-columns: repeat(auto-fit, minmax(120px, 1fr)); gap: 10px; }
.stat { border: 1px solid var(--line); border-radius: 12px; padding: 10px 14px;
  background: var(--block-background-fill); }
.stat b { display: block; font-size: 1.45rem; font-weight: 650;
  font-variant-numeric: tabular-nums; }
.stat span { color: var(--body-text-color-subdued); font-size: .82rem; }
.meter { height: 10px; border-radius: 999px; background: var(--border-color-primary);
  overflow: hidden; margin: .45rem 0; }
.meter i { display: block; height: 100%; background: var(--color-accent);
  transition: width .4s ease; }
.table { width: 100%; border-collapse: collapse; font-size: .88rem; border: 0 !important; }
.table tr, .table th, .table td { border: 0 !important; overflow-wrap: normal !important; }
.table th, .table td { border-bottom: 1px solid var(--line) !important; text-align: left;
  padding: .4rem .7rem .4rem 0 !important; vertical-align: top; }
.table th { font-weight: 600; color: var(--body-text-color-subdued); white-space: nowrap; }
.table td:last-child { min-width: 13rem; }
.login { display: flex; flex-wrap: wrap; gap: 10px; align-items: center; }
.login input { border: 1px solid var(--line); border-radius: 10px; padding: .4rem .7rem;
  background: var(--input-background-fill); }
.login button { background: var(--button-primary-background-fill); color: white;
  border-radius: 10px; padding: .45rem 1.1rem; }
.bar form { margin: 0; } .bar .link { color: inherit; text-decoration: underline; }
.bottom { align-items: flex-end; }
.scroll { overflow-x: auto; }
.good { color: #0f766e; } .bad { color: #b91c1c; } .wait { color: #a16207; }
.dark .good { color: #5eead4; } .dark .bad { color: #fca5a5; } .dark .wait { color: #fcd34d; }
.good b, .bad b { color: inherit; }
@media (max-width: 640px) {
  .gradio-container > main, .gradio-container main { padding: 8px !important; }
  .bar h1 { flex-basis: 100%; }
}
@media (prefers-reduced-motion: reduce) { * { transition: none !important; } }
"""
