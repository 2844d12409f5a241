"""The HTTP API beside OpenAI's: side by side, votes, one's own data, what operators do.

A route turns a request into one call of `ChatService` and the result into JSON; it has no rules.
The rater comes from a key, a token, a proxy or the signed cookie. A field of the request names one
only to a gateway's key.
"""

import asyncio
from contextlib import aclosing
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response
from fastapi.responses import StreamingResponse

from chat_app.api.callers import me_of, operator, rater_of, service_of
from chat_app.api.v1.dialogue import dialogue_of
from chat_app.api.v1.requests import (
    CandidatesIn,
    ChoiceIn,
    ConsentIn,
    DemonstrationIn,
    EraseIn,
    FeedbackIn,
    PromoteIn,
    RankingIn,
    RetryIn,
)
from chat_app.errors import NotFoundError
from chat_app.service.chat import ChatService
from chat_app.service.limits import check_number
from chat_app.service.my_data import FILE, MyData
from chat_app.service.replies import Candidates

THUMBS = {"up": 1, "down": -1, None: 0}

router = APIRouter(prefix="/v1")


Service = Annotated[ChatService, Depends(service_of)]
RaterId = Annotated[str, Depends(rater_of)]
Me = Annotated[str, Depends(me_of)]
Operator = Annotated[str, Depends(operator)]


# Chatting


@router.post("/candidates")
async def candidates(body: CandidatesIn, rater_id: RaterId, service: Service) -> dict[str, Any]:
    """Two or more blind replies to one dialogue."""
    sampling, stored = body.over(service.default_sampling), None
    dialogue = dialogue_of(body.messages, service.settings.limits)
    check_number(body.n, service.settings.limits)  # before anything is stored
    chars = sum(len(message["content"]) for message in dialogue)
    room = service.require_room(rater_id, body.n, chars=chars)
    try:
        await service.check_dialogue(dialogue, sampling)
        path = await asyncio.to_thread(service.continue_dialogue, rater_id, dialogue)
        found = service.candidates(
            rater_id, path, n=body.n, sampling=sampling, stop=body.stop, room=room
        )
        async with aclosing(found) as pieces:
            async for piece in pieces:
                stored = piece.candidates
    finally:
        room()
    assert stored is not None, "the last piece has the candidates"
    return _shown(stored)


@router.get("/comparisons/next")
def next_comparison(rater_id: RaterId, service: Service) -> dict[str, Any]:
    """A gold question for the caller, or null; it stays the same until it is answered.

    Of a test it tells how far the caller is, never how many answers are right: then whoever takes
    it once, under one token, could look up every answer for another.
    """
    found = service.next_comparison(rater_id)
    test = {}
    if (one := service.test_of(rater_id)) is not None:
        told = {"answered": one.answered, "questions": one.questions, "passed": one.passed}
        test = {"screening": told}
    if found is None:
        return {"comparison": None, **test}
    prompt, stored = found
    messages = [{"role": m.role, "content": m.content} for m in prompt]
    return {"comparison": {"messages": messages, **_shown(stored)}, **test}


# Feedback


@router.post("/choices")
def choose(body: ChoiceIn, rater_id: RaterId, service: Service) -> dict[str, Any]:
    """Choose among candidates; the answer names their adapters, once the choice is stored."""
    choice, shown = service.choose(
        rater_id,
        body.candidates_id,
        body.choice,
        idempotency_key=body.idempotency_key,
        strength=body.strength,
        seconds=body.seconds,
        tags=body.tags,
        comment=body.comment,
    )
    adapters = {m.label: m.adapter for m in shown.messages}
    return {"id": choice.id, "choice": choice.choice, "adapters": adapters} | _use(
        rater_id, service
    )


@router.post("/rankings")
def rank(body: RankingIn, rater_id: RaterId, service: Service) -> dict[str, Any]:
    """Rank candidates, best first."""
    ranking = service.rank(
        rater_id, body.candidates_id, body.order, idempotency_key=body.idempotency_key
    )
    return {"id": ranking.id, "order": ranking.order} | _use(rater_id, service)


@router.post("/feedback")
def feedback(body: FeedbackIn, rater_id: RaterId, service: Service) -> dict[str, Any]:
    """Thumb a reply up or down, or withdraw the thumb."""
    give = service.thumb if body.client_message is None else service.thumb_by_client
    thumb = give(
        rater_id,
        body.client_message or body.message_id or "",
        THUMBS[body.thumb],
        idempotency_key=body.idempotency_key,
        tags=body.tags,
        comment=body.comment,
    )
    stored = {"id": thumb.id, "message_id": thumb.message_id, "thumb": body.thumb}
    return stored | _use(rater_id, service)


@router.post("/retries")
def compare_with_before(body: RetryIn, rater_id: RaterId, service: Service) -> dict[str, Any]:
    """Say whether a reply is better than the one that it replaced."""
    retry = service.compare_with_before(
        rater_id, body.message_id, body.than_before, idempotency_key=body.idempotency_key
    )
    stored = {"id": retry.id, "message_id": retry.message_id, "than_before": retry.than_before}
    return stored | _use(rater_id, service)


@router.post("/demonstrations")
async def demonstrate(body: DemonstrationIn, rater_id: RaterId, service: Service) -> dict[str, Any]:
    """Store the answer that the caller wrote, to a reply or to a dialogue."""
    limits = service.settings.limits
    prompt = None if body.messages is None else dialogue_of(body.messages, limits)
    if prompt is not None:
        await service.check_dialogue(prompt)
    demonstration = await asyncio.to_thread(
        service.demonstrate,
        rater_id,
        body.content,
        idempotency_key=body.idempotency_key,
        message_id=body.message_id,
        prompt=prompt,
    )
    return {"id": demonstration.id} | _use(rater_id, service)


@router.post("/consent")
def consent(body: ConsentIn, rater_id: RaterId, service: Service) -> dict[str, Any]:
    """Accept the present notice, so that votes train the model, or take that back."""
    service.consent(rater_id, given=body.given)
    return {"given": body.given, "version": service.settings.consent_version}


@router.get("/feedback/{rater}")
def receipts(rater: str, rater_id: RaterId, service: Service) -> dict[str, Any]:
    """The caller's own events and what became of each; ``rater`` is ``me`` or the own id."""
    if rater not in ("me", rater_id):
        raise NotFoundError(f"you are not rater {rater!r}; ask for /v1/feedback/me")
    return {"rater": rater_id, "events": service.receipts(rater_id)}


@router.get("/me")
def download(rater_id: Me, service: Service) -> StreamingResponse:
    """All that is stored of the caller, as one JSON document."""
    headers = {"content-disposition": f'attachment; filename="{FILE}"'}
    pieces = MyData(service).everything(rater_id)
    return StreamingResponse(pieces, media_type="application/json", headers=headers)


@router.delete("/me")
def erase(body: EraseIn, rater_id: Me, service: Service, response: Response) -> dict[str, Any]:
    """Erase all that is stored of the caller, for good; 202 while a round runs: once it ends."""
    erased = MyData(service).erase(rater_id, confirm=body.confirm)
    if erased.after is not None:
        response.status_code = 202
    return asdict(erased)


# For operators

operate = APIRouter(prefix="/v1/operate", dependencies=[Depends(operator)])


@operate.get("/status")
def status(service: Service) -> dict[str, Any]:
    """The document of `feedback-chat status --json`."""
    return service.status()


@operate.post("/cycle", status_code=202)
def start_cycle(service: Service, by: Operator) -> dict[str, Any]:
    """Start a cycle in a separate process."""
    return {"pid": service.start_cycle(by=by)}


@operate.post("/cancel")
def cancel_cycle(service: Service, by: Operator) -> dict[str, Any]:
    """Cancel the running cycle; the answer comes when its process is gone, within 25 seconds."""
    cycle = service.cancel_cycle(by=by)
    return {"cycle": cycle.id, "state": cycle.state, "stage": cycle.stage}


@operate.post("/promote")
def promote(body: PromoteIn, service: Service, by: Operator) -> dict[str, Any]:
    """Serve a published adapter; with ``force`` also one that the gate rejected."""
    serving = service.promote(body.adapter, force=body.force, by=by)
    return {"serving": serving.adapter, "previous": serving.previous}


@operate.post("/canary")
def canary(body: PromoteIn, service: Service, by: Operator) -> dict[str, Any]:
    """Let people compare an adapter with the served one, blind, before it is served."""
    trial = service.canary(body.adapter, force=body.force, by=by)
    return {"adapter": trial.adapter, "other": trial.other}


@operate.post("/stop-trial")
def stop_trial(service: Service, by: Operator) -> dict[str, Any]:
    """Let people compare adapters no more; what is served stays."""
    trial = service.stop_trial(by=by)
    return {"kind": trial.kind, "adapter": trial.adapter, "other": trial.other}


@operate.post("/rollback")
def rollback(service: Service, by: Operator) -> dict[str, Any]:
    """Serve the adapter that was served before; ``skipped`` says which could not be, and why."""
    return service.rollback(by=by).facts()


# Answers


def _use(rater_id: str, service: ChatService) -> dict[str, Any]:
    """What a stored vote is for: without consent it trains nothing, and its answer says so."""
    if service.trains(rater_id):
        return {"trains": True}
    return {"trains": False, "note": "stored; it trains nothing before POST /v1/consent"}


def _shown(stored: Candidates) -> dict[str, Any]:
    replies = [{"label": m.label, "content": m.content} for m in stored.messages]
    return {"candidates_id": stored.id or None, "replies": replies}
