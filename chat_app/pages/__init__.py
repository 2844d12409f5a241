"""The two web pages, and the function that mounts them.

Only this folder imports Gradio, and only when the pages are mounted, because the import takes
seconds. The rules are in `chat_app.handlers` and `chat_app.service`.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import fastapi

    from chat_app.identity import Identity
    from chat_app.service.chat import ChatService

__all__ = ["mount"]


def mount(app: "fastapi.FastAPI", service: "ChatService", identity: "Identity") -> None:
    """Mount the operator page at ``/operator`` and the chat page at ``/``.

    Call it after all other routes are added: the chat page takes every other path.
    """
    from chat_app.pages.shared import attach, scrub_environment

    scrub_environment()
    from chat_app.handlers.operator import OperatorDoor
    from chat_app.pages.chat import ChatPage
    from chat_app.pages.login import add_login
    from chat_app.pages.operator import OperatorPage

    door = OperatorDoor(identity)
    add_login(app, door)
    blocked = [service.settings.data.resolve()]
    attach(
        app,
        OperatorPage(service, door).build(),
        "/operator",
        user=lambda request: "operator" if door.is_open(request.headers, request.cookies) else "-",
        blocked=blocked,
    )
    attach(
        app,
        ChatPage(service).build(),
        "/",
        user=lambda request: _rater(identity, request),
        blocked=blocked,
    )


def _rater(identity: "Identity", request: "fastapi.Request") -> str | None:
    """The rater of a request; without one None, which Gradio answers with 401."""
    from chat_app.errors import NotAllowedError

    try:
        return identity.caller(request.headers, request.cookies).rater_id
    except NotAllowedError:
        return None
