"""The web pages, and the function that mounts them.

Each page is a small HTML shell and a script (`static/`) that calls the functions of its events over
Gradio. Only this folder imports Gradio, and only when the pages are mounted, because the import
takes seconds. The rules are in `chat_app.handlers` and `chat_app.service`.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import fastapi

    from chat_app.api.operator_door import OperatorDoor
    from chat_app.identity import Identity
    from chat_app.service.chat import ChatService

__all__ = ["Pages", "mount"]


@dataclass(frozen=True)
class Pages:
    """What the server has to do for the pages when it stops: end the replies that are written."""

    close: Callable[[], Awaitable[None]]


def mount(
    app: "fastapi.FastAPI", service: "ChatService", identity: "Identity", door: "OperatorDoor"
) -> Pages:
    """Add the pages and their functions.

    Call it after all other routes are added: Gradio takes every other path.
    """
    from chat_app.api.callers import address_of, sees_progress, visitor_of
    from chat_app.handlers.progress import Progress, WhoseValues
    from chat_app.pages.shared import attach, log_one_line_for_a_failed_event, scrub_environment

    scrub_environment()
    log_one_line_for_a_failed_event()
    import gradio as gr

    from chat_app.pages.chat_events import ChatEvents
    from chat_app.pages.compare_events import CompareEvents
    from chat_app.pages.events import add_events
    from chat_app.pages.follow import add_follow
    from chat_app.pages.login import add_login
    from chat_app.pages.operator_events import add_operator_page, operator_blocks
    from chat_app.pages.progress_events import ProgressEvents
    from chat_app.pages.shared import BLOCKS
    from chat_app.pages.shell import Shell, add_pages
    from chat_app.pages.votes_events import VotesEvents

    chat, compare = ChatEvents(service), CompareEvents(service)
    votes, progress, whose = VotesEvents(service), Progress(service), WhoseValues(service)
    pages = ["chat", "compare", "votes"]
    if service.settings.progress != "operator":
        pages += ["progress", "values"]
    with gr.Blocks(title="feedback-chat", **BLOCKS) as visitors:
        parts = (chat, compare, votes, ProgressEvents(progress, whose))
        add_events([function for part in parts for function in part.functions()])
    add_pages(app, Shell(service.settings, tuple(pages)))
    add_follow(app, chat.talk, lambda request: visitor_of(request, identity))
    add_login(app, door, identity.operator_cookie)
    add_operator_page(app, service, door)
    blocked = [service.settings.data.resolve()]
    operator = operator_blocks(service, door, progress, whose)

    def operator_of(request: "fastapi.Request") -> str | None:
        is_open = door.is_open(request.headers, request.cookies, address_of(request))
        return "operator" if is_open else None

    def visitor_to(request: "fastapi.Request") -> str | None:
        who = visitor_of(request, identity)
        return "" if who is None and sees_progress(request, identity) else who

    # without a user, Gradio answers 401
    attach(app, operator, "/operator", user=operator_of, blocked=blocked)
    attach(app, visitors, "/", user=visitor_to, blocked=blocked)

    async def close() -> None:
        await chat.talk.close()
        await compare.compare.close()

    return Pages(close)
