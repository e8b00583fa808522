"""The broker's users: who may say and hear what. Each is known by the certificate of its name (`bus/servers/tls.py`).

Nothing is allowed that is not named. A user hears answers in an inbox of its own only, and answers only who asks it.
"""

from __future__ import annotations

from msgspec import Struct


class Rights(Struct, frozen=True):
    """Subjects. `answers`: it may answer whoever asks it, once."""

    publish: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()
    answers: bool = False

    def __add__(self, more: Rights) -> Rights:
        return Rights(
            tuple(dict.fromkeys(self.publish + more.publish)),
            tuple(dict.fromkeys(self.subscribe + more.subscribe)),
            self.answers or more.answers,
        )


class User(Struct, frozen=True):
    """`system`: of the account that tells how servers are configured, and sees no streams."""

    name: str
    rights: Rights
    system: bool = False
