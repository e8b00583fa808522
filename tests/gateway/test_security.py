"""Tokens: who made them, for whom, until when; roles contain each other."""

from __future__ import annotations

import time

import jwt
import pytest

from gateway.http.tokens import ALGORITHM, ISSUER, InvalidToken, Principal, Role, Tokens

SECRET = "s" * 48


def forged(**claims: object) -> str:
    now = int(time.time())
    good = {"sub": "c1", "role": "customer", "iat": now, "exp": now + 60, "iss": ISSUER}
    left = {name: value for name, value in {**good, **claims}.items() if value is not None}
    return jwt.encode(left, SECRET, algorithm=ALGORITHM)


@pytest.mark.parametrize("role", ["customer", "staff", "admin"])
def test_a_token_is_for_whom_it_was_issued(role: Role) -> None:
    tokens = Tokens(SECRET)
    assert tokens.check(tokens.issue(role, "somebody")) == Principal("somebody", role)


def test_roles_contain_each_other() -> None:
    assert Principal("a", "admin").may("staff")
    assert Principal("s", "staff").may("customer")
    assert not Principal("s", "staff").may("admin")
    assert not Principal("c", "customer").may("staff")


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": 1},
        {"exp": None},
        {"sub": None},
        {"sub": ""},
        {"sub": "a.b"},
        {"sub": "a" * 65},
        {"role": None},
        {"role": "root"},
        {"iss": None},
        {"iss": "somebody else"},
        {"exp": "soon"},
    ],
)
def test_claims_that_make_no_sense_are_refused(claims: dict[str, object]) -> None:
    with pytest.raises(InvalidToken):
        Tokens(SECRET).check(forged(**claims))


@pytest.mark.parametrize("token", ["", ".", "a.b.c", "\0", "x" * 10_000, "é"])
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(InvalidToken):
        Tokens(SECRET).check(token)


def test_tokens_of_another_secret_are_refused() -> None:
    with pytest.raises(InvalidToken):
        Tokens(SECRET).check(Tokens("t" * 48).issue("admin", "admin"))


def test_only_so_many_tokens_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.http.tokens.TOKENS_KNOWN_MAX", 3)
    tokens = Tokens(SECRET)
    made = [tokens.issue("staff", f"s{number}") for number in range(5)]
    assert [tokens.check(token).subject for token in made] == [f"s{number}" for number in range(5)]
    assert len(tokens._known) == 3
    assert tokens.check(made[0]).subject == "s0"
