"""Tokens: JWTs that say who asks, and in which role. Knows no web framework."""

from __future__ import annotations

import hmac
import time
from collections import OrderedDict
from typing import Literal

import jwt
import msgspec
from msgspec import Struct

from domains.kernel import Id

Role = Literal["customer", "staff", "admin"]
RANKS: dict[str, int] = {"customer": 0, "staff": 1, "admin": 2}
ALGORITHM = "HS256"
ISSUER = "tallystream"
TOKEN_BYTES_MAX = 4_096
TOKENS_KNOWN_MAX = 4_096
TOKEN_TTL_S = 24 * 3600


class Principal(Struct, frozen=True):
    subject: str
    role: Role

    def may(self, role: Role) -> bool:
        """Whether this role or a higher one."""
        return RANKS[self.role] >= RANKS[role]


class Claims(Struct, frozen=True):
    sub: Id
    role: Role
    exp: float


class InvalidToken(Exception):
    """The token is not ours, not whole, or not valid any more."""


class Tokens:
    """Makes and checks tokens. Checked ones are remembered until they expire, at most `TOKENS_KNOWN_MAX` of them."""

    def __init__(self, secret: str) -> None:
        self._secret = secret
        self._known: OrderedDict[str, tuple[Principal, float]] = OrderedDict()

    def issue(self, role: Role, subject: str, ttl_s: int = TOKEN_TTL_S) -> str:
        now = int(time.time())
        claims = {"sub": subject, "role": role, "iat": now, "exp": now + ttl_s, "iss": ISSUER}
        return jwt.encode(claims, self._secret, algorithm=ALGORITHM)

    def seal(self, *parts: str) -> str:
        """What only who knows our secret can put under these."""
        return hmac.digest(self._secret.encode(), "\n".join(parts).encode(), "sha256")[:16].hex()

    def is_seal(self, given: str, *parts: str) -> bool:
        return hmac.compare_digest(given, self.seal(*parts))

    def bearer(self, authorization: str) -> Principal:
        """Whose `Bearer` token this is. Raises `InvalidToken`."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise InvalidToken("a bearer token is needed: `tally token --role staff` prints one")
        return self.check(token.strip())

    def check(self, token: str) -> Principal:
        """Raises `InvalidToken`."""
        known = self._known.get(token)
        if known is not None and known[1] > time.time():
            return known[0]
        if len(token) > TOKEN_BYTES_MAX:
            raise InvalidToken("the token is too long")
        try:
            options = {"require": ["exp", "sub", "iss"]}
            payload = jwt.decode(token, self._secret, algorithms=[ALGORITHM], issuer=ISSUER, options=options)  # type: ignore[arg-type]  # A TypedDict, here of required keys only.
            claims = msgspec.convert(payload, Claims)
        except jwt.PyJWTError as error:
            raise InvalidToken(str(error)) from error
        except msgspec.ValidationError as error:
            raise InvalidToken(f"the token's claims make no sense: {error}") from error
        principal = Principal(claims.sub, claims.role)
        self._known[token] = principal, claims.exp
        if len(self._known) > TOKENS_KNOWN_MAX:
            self._known.popitem(last=False)
        return principal
