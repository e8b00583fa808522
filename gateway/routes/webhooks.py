"""Webhooks: what the payment provider tells by itself. Signed, and harmless twice: the payments know what they know."""

from __future__ import annotations

import time
from typing import Annotated

from litestar import Response, post
from msgspec import Meta, Struct

from bus.commands import Refused, Stored, Unavailable, Unchanged, Unknown
from gateway.effects.provider import Nonsense, Operation, Undecided, meaning
from gateway.effects.webhooks import SIGNATURE, WebhookRefused, verify
from gateway.http.bodies import decode_body
from gateway.http.gate import AnyRequest, gate_of, header
from gateway.http.kinds import WEBHOOK
from gateway.http.problems import Problem, refused, unavailable

ACTOR = "payment-provider"


class Message(Struct, frozen=True):
    """`id` names the message, `key` is the idempotency key of what was asked of the provider."""

    id: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,56}$(?!\n)")]
    key: Annotated[str, Meta(max_length=128)]
    operation: Operation


@post("/v1/webhooks/payments", exclude_from_auth=True, status_code=204, opt=WEBHOOK, tags=["payments"])
async def payment_webhook(request: AnyRequest) -> Response[None]:
    """The payment provider tells what became of a charge or a refund. 204 once that is on disk, or was before; 403
    without a fresh signature; a 503 asks for the message again."""
    body = await request.body()
    try:
        verify(request.app.state.webhook_secret, header(request, SIGNATURE.lower().encode()) or "", body, time.time())
    except WebhookRefused as error:
        raise Problem(403, "signature_invalid", str(error), field=f"header:{SIGNATURE}") from error
    message = decode_body(body, Message)
    try:
        command = meaning(message.key, message.operation)
    except (Undecided, Nonsense) as error:
        raise Problem(422, "malformed", str(error) or "nothing is decided yet", field="/operation") from error
    answer = await gate_of(request).sender.send(
        command,
        id=f"webhook-{message.id}",
        actor=ACTOR,
        correlation=command.order_id,
        trace=request.scope["state"]["traceparent"],
    )
    match answer:
        case Stored() | Unchanged():
            return Response(None, status_code=204)
        case Refused(code, detail, field):
            raise refused(code, detail, field)
        case Unavailable() | Unknown():
            raise unavailable("unavailable", "the payments cannot be told at the moment: send it again")


routes = [payment_webhook]
