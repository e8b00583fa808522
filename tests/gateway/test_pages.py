"""Pages: cursors that come back as they went out, and nothing else taken for one; headers as they are written."""

from __future__ import annotations

from contextlib import suppress
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.http.commanding import uuid7
from gateway.http.gate import POSITIONS_MAX, AnyRequest, expected_version, is_known, positions
from gateway.http.pages import after, page
from gateway.http.problems import Problem


def asked(path: str = "/v1/things", headers: dict[str, str] | None = None, **query: str) -> AnyRequest:
    """As much of a request as pages and headers look at."""
    sent = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
    url = SimpleNamespace(path=path)
    what: Any = SimpleNamespace(url=url, query_params=query, headers=headers or {}, scope={"headers": sent})
    return cast("AnyRequest", what)


def test_a_last_page_has_no_next() -> None:
    content, headers = page(asked(), ["a", "b"], 2, str)
    assert (content.items, content.next, headers) == (["a", "b"], None, {})


@given(st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True))
def test_the_next_page_begins_behind_the_last_key(key: str) -> None:
    content, headers = page(asked(category="a & b"), [key, "beyond"], 1, str)
    assert content.items == [key]
    assert content.next is not None
    assert after(content.next) == key
    link, relation = headers["Link"].split("; ")
    assert relation == 'rel="next"'
    url = urlsplit(link[1:-1])
    assert (url.path, parse_qs(url.query)) == ("/v1/things", {"category": ["a & b"], "cursor": [content.next]})


def test_the_next_pages_link_replaces_the_cursor() -> None:
    content, headers = page(asked(cursor="b2xk", limit="1"), ["new", "beyond"], 1, str)
    assert parse_qs(urlsplit(headers["Link"].split(">")[0]).query)["cursor"] == [content.next]


@pytest.mark.parametrize("cursor", ["*", "a", "YS5i", "Cg==", "YQ==YQ==", "é", "//8=", "YQo="])
def test_what_is_no_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(Problem) as refused:
        after(cursor)
    assert (refused.value.status, refused.value.field) == (422, "query:cursor")


@given(st.text(max_size=50))
def test_any_text_is_a_cursor_or_a_problem(cursor: str) -> None:
    with suppress(Problem):
        assert isinstance(after(cursor), str)


LOGS = ("orders", "inventory")


def test_positions_are_read() -> None:
    assert positions("orders=12", LOGS) == {"orders": 12}
    assert positions("orders=12, inventory=7,orders=3", LOGS) == {"orders": 12, "inventory": 7}
    assert positions("orders.3=12,orders.0=17", LOGS) == {"orders": 17}


@pytest.mark.parametrize(
    "header",
    [
        "",
        "orders",
        "=1",
        "orders=1,",
        "Orders=1",
        "orders=" + "9" * 19,
        "orders.100=1",
        "orders.=1",
        "payments=1",
        ",".join(["orders=1"] * (POSITIONS_MAX + 1)),
    ],
)
def test_positions_that_make_no_sense_are_refused(header: str) -> None:
    with pytest.raises(Problem) as refused:
        positions(header, LOGS)
    assert (refused.value.status, refused.value.field) == (422, "header:Min-Position")


@pytest.mark.parametrize(
    ("header", "version"), [(None, None), ("*", None), ('"3"', 3), (' "3" ', 3), ('"3.17"', 3), ('"0"', 0)]
)
def test_if_match_names_a_version(header: str | None, version: int | None) -> None:
    headers = {} if header is None else {"If-Match": header}
    assert expected_version(asked(headers=headers)) == version


@pytest.mark.parametrize("header", ["", "3", 'W/"3"', '"x"', '"3", "4"', '"' + "9" * 19 + '"'])
def test_an_if_match_that_no_version_has_is_412(header: str) -> None:
    with pytest.raises(Problem) as refused:
        expected_version(asked(headers={"If-Match": header}))
    assert (refused.value.status, refused.value.code) == (412, "version_conflict")


@pytest.mark.parametrize(
    ("header", "known"),
    [
        ('"3.1"', True),
        ('W/"3.1"', True),
        ('"1", "3.1"', True),
        ("*", True),
        ('"3"', False),
        ("3.1", False),
        ("", False),
    ],
)
def test_if_none_match_finds_its_etag(header: str, known: bool) -> None:
    assert is_known(asked(headers={"If-None-Match": header}), '"3.1"') is known


def test_ids_made_here_sort_by_age() -> None:
    made = [uuid7() for _ in range(1_000)]
    assert len(set(made)) == 1_000
    times = [one[:13] for one in made]
    assert times == sorted(times)
    assert {(one[14], one[19] in "89ab") for one in made} == {("7", True)}
