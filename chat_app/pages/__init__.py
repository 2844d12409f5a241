"""The two web pages, and the function that mounts them.

Only this folder imports Gradio, and only when the pages are mounted, because the import takes
seconds. The rules are in `chat_app.handlers` and `chat_app.service`.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import fastapi
    import gradio as gr

    from chat_app.api.operator_door import OperatorDoor
    from chat_app.identity import Identity
    from chat_app.service.chat import ChatService

__all__ = ["mount"]


def mount(
    app: "fastapi.FastAPI", service: "ChatService", identity: "Identity", door: "OperatorDoor"
) -> "list[gr.Blocks]":
    """Mount the operator page at ``/operator`` and the chat page at ``/``; returns both.

    Call it after all other routes are added: the chat page takes every other path.
    """
    from chat_app.api.callers import address_of, visitor_of
    from chat_app.pages.shared import attach, log_one_line_for_a_failed_event, scrub_environment

    scrub_environment()
    log_one_line_for_a_failed_event()
    from chat_app.pages.chat import ChatPage
    from chat_app.pages.login import add_login
    from chat_app.pages.operator import OperatorPage

    add_login(app, door, identity.operator_cookie)
    blocked = [service.settings.data.resolve()]
    operator, chat = OperatorPage(service, door).build(), ChatPage(service).build()

    def operator_of(request: "fastapi.Request") -> str | None:
        is_open = door.is_open(request.headers, request.cookies, address_of(request))
        return "operator" if is_open else None

    # without a user, Gradio answers 401
    attach(app, operator, "/operator", user=operator_of, blocked=blocked)
    attach(app, chat, "/", user=lambda r: visitor_of(r, identity), blocked=blocked)
    return [operator, chat]
