"""Chores of chat clients: titles, tags, follow-ups and the like, which no person asked for.

Open WebUI and LibreChat send them to the model of the chat, in its name. They are answered, and
nothing of them is stored: as prompts and replies they would teach the policy to write titles. They
are told by the marks of the clients' own prompts, all of which have to be there, in a dialogue of
one question. A question with found documents begins like one of Open WebUI's chores and is none.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from chat_app.errors import TooLongError
from chat_app.service.chat import ChatService
from feedback_store.records import PromptMessage

# Each line: how the question begins, and what it contains besides.
MARKS = (
    ("### Task:", "<chat_history>"),  # Open WebUI: titles, tags, follow-ups, queries, images
    ("### Task:", "autocompletion system", "<text>"),  # Open WebUI
    ("Your task is to reflect the speaker's likely facial expression", "emoji"),  # Open WebUI
    ("Provide a concise, 5-word-or-less title for the conversation", ""),  # LibreChat
    ("Analyze this conversation and provide:", "concise title in the detected language"),
    ("Please generate a concise title", "for a conversation that starts with"),
    ("Write a concise title for this conversation", ""),
)
TASK = "_generation"  # ends the names of Open WebUI's tasks, such as title_generation
CUT = "\n...\n"
TRIES = 4


def is_chore(dialogue: Sequence[PromptMessage], metadata: Any, task: str = "") -> bool:
    """Whether a client asks for itself, by its prompt, ``metadata.task`` or the header's task."""
    if task.strip():
        return True
    said = [message for message in dialogue if message["role"] != "system"]
    if len(said) != 1:
        return False
    named = metadata.get("task") if isinstance(metadata, Mapping) else None
    if isinstance(named, str) and named.endswith(TASK):
        return True
    text = said[0]["content"].strip()
    return any(text.startswith(begin) and all(m in text for m in more) for begin, *more in MARKS)


async def shortened(dialogue: Sequence[PromptMessage], service: ChatService) -> list[PromptMessage]:
    """A chore whose last message the model can read: its beginning and its end.

    Instructions stand at the beginning, or what is to be continued at the end.
    """
    *above, last = dialogue
    most = len(last["content"])
    for _ in range(TRIES):
        chore = [*above, PromptMessage(role=last["role"], content=_cut(last["content"], most))]
        try:
            await service.check_dialogue(chore)
        except TooLongError as exc:
            if not exc.fits:
                above = []
            most = min(exc.fits or most, most - most // 8)
        else:
            return chore
    return chore


def _cut(text: str, most: int) -> str:
    half = max(1, (most - len(CUT)) // 2)
    return text if len(text) <= most else f"{text[:half]}{CUT}{text[-half:]}"
