"""Bodies: decoded by msgspec in one step, from the bytes to the type; what is wrong is said with a JSON pointer."""

from __future__ import annotations

import asyncio
from functools import cache
from typing import TYPE_CHECKING, TypeVar

import msgspec
from litestar.dto import DTOConfig, MsgspecDTO
from litestar.types import HTTPScope, Receive
from litestar.typing import FieldDefinition

from bus.engines.deciding import malformed
from gateway.http.headers import header_of
from gateway.http.problems import Problem, refused

if TYPE_CHECKING:
    from litestar._openapi.schema_generation import SchemaCreator
    from litestar.openapi.spec import Reference, Schema

BODY_BYTES_MAX = 256 * 1024
DISCARDED_BYTES_MAX = 8 * 1024 * 1024
BODY_WAIT_S = 30.0

Body = TypeVar("Body", bound=msgspec.Struct)


@cache
def _decoder(body: type[Body]) -> msgspec.json.Decoder[Body]:
    return msgspec.json.Decoder(body)


class JsonBody(MsgspecDTO[Body]):
    """`@post(..., dto=JsonBody[PlaceOrderBody])`: `data` is decoded straight from the bytes."""

    config = DTOConfig()

    def decode_bytes(self, value: bytes) -> Body:
        return decode_body(value, self.model_type)

    @classmethod
    def create_openapi_schema(
        cls, field_definition: FieldDefinition, handler_id: str, schema_creator: SchemaCreator
    ) -> Reference | Schema:
        return schema_creator.for_field_definition(field_definition)


async def read_body(scope: HTTPScope, receive: Receive) -> bytes:
    """The whole body, which `scope["state"]["body"]` keeps.

    Raises `Problem`: 413 when it is too large, 408 when it does not come, 400 when the client went away. The rest of a
    body that is too large is received and thrown away, up to `DISCARDED_BYTES_MAX`: who is still sending when the
    server closes loses the answer with the connection.
    """
    announced = header_of(scope, b"content-length") or ""
    if announced.isdecimal() and int(announced) > DISCARDED_BYTES_MAX:
        raise _too_large()
    body, size = b"", 0
    try:
        async with asyncio.timeout(BODY_WAIT_S):
            while size <= DISCARDED_BYTES_MAX:
                message = await receive()
                if message["type"] != "http.request":
                    raise Problem(400, "bad_request", "the client went away")
                size += len(message["body"])
                if size <= BODY_BYTES_MAX:
                    body = body + message["body"] if body else message["body"]
                if not message.get("more_body", False):
                    break
    except TimeoutError as error:
        raise Problem(408, "body_late", f"a body comes within {BODY_WAIT_S:.0f} seconds") from error
    if size > BODY_BYTES_MAX:
        raise _too_large()
    scope["state"]["body"] = body
    return body


def _too_large() -> Problem:
    return Problem(413, "body_too_large", f"a body is at most {BODY_BYTES_MAX} bytes")


def decode_body(value: bytes, body: type[Body]) -> Body:
    """Raises `Problem`: 400 for what is no JSON, 422 for what is not this type."""
    try:
        decoder: msgspec.json.Decoder[Body] = _decoder(body)
        return decoder.decode(value)
    except msgspec.ValidationError as error:
        wrong = malformed(error)
        raise refused(wrong.code, wrong.detail, wrong.field) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Problem(400, "not_json", f"the body is not JSON: {error}") from error
    except RecursionError as error:
        raise Problem(400, "not_json", "the body is nested too deeply") from error
