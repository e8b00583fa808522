"""A list of orders that is followed: first as it is, then each change of it, gone on with without a gap or a repeat."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack
from itertools import islice
from pathlib import Path

import httpx
import pytest
from nats.aio.client import Client

from bench.lives import lives
from bus.announcements import Announcer, Standing, Standings
from bus.logs.blocks import BLOCK_COMMITS_MAX, block_decoder, seal
from bus.logs.log import MemoryLog
from domains.kernel import Rejected
from domains.orders.messages import (
    CancelOrder,
    ConfirmPayment,
    ConfirmReservation,
    DeliverOrder,
    OrderCommand,
    OrderLine,
    OrderPlaced,
    PlaceOrder,
    ShipOrder,
)
from domains.orders.order import orders
from gateway.views.changes import Changes
from gateway.views.order_lists import (
    COMMITS_AT_ONCE,
    MISSED_RECORDS_MAX,
    WAITING_MAX,
    Follower,
    ListChange,
    OrderFilter,
    OrderLists,
)
from projections.commit_index import PLACES
from projections.files import ReadModelFiles
from projections.history import folded
from projections.order_summary import MOVES_FROM, SUMMARY, order_summary, summaries_of
from projections.projection import Recorded
from projections.reader import Moment, Reader, at_its_position
from projections.store import Store
from tests.bus.waiting import turns, until
from tests.bus.written import AT, Written
from tests.gateway.asserts import problem
from tests.gateway.streams import Event, following, taken
from tests.projections.tally import batch_of
from tests.system import HELD, Shop, order_of

DECODER = block_decoder(orders.events)
EVERYTHING = OrderFilter(None, None)
STREAM = "/v1/orders/stream"
PAID = ["OrderPlaced", "OrderReserved", "OrderPaid"]


def changes(events: list[Event]) -> list[tuple[str, str]]:
    """Of which order, and what."""
    return [(event.data["order"]["order_id"], ",".join(event.data["events"])) for event in events]


def placed_by(shop: Shop, customer_id: str, count: int = 1) -> list[str]:
    """Orders of a customer, paid and shown."""
    sku = shop.product(units=count)
    order_ids = [shop.place(sku, customer_id=customer_id, **HELD)["order_id"] for _ in range(count)]
    for order_id in order_ids:
        shop.settled(order_id)
    shop.caught_up()
    return order_ids


# -- over HTTP -----------------------------------------------------------------------------------------------------


def test_a_stream_begins_with_the_list_and_goes_on_with_each_change(
    shop: Shop, customer: httpx.Client, customer_id: str
) -> None:
    before = placed_by(shop, customer_id, 2)
    shop.place(shop.product(units=1))  # Somebody else's.
    with following(customer, STREAM, {}) as events:
        first = next(events)
        assert first.name == "orders"
        assert first.data["position"] == f"orders={first.id}"
        assert first.data["items"] == customer.get("/v1/orders").json()["items"]
        assert {item["order_id"] for item in first.data["items"]} == set(before)
        order_id = shop.place(shop.product(units=1), customer_id=customer_id, **HELD)["order_id"]
        came = taken(events, 3)
        assert changes(came) == [(order_id, what) for what in PAID]
        assert [event.data["order"]["status"] for event in came] == ["placed", "reserved", "paid"]
        assert [event.data["order"]["version"] for event in came] == [1, 2, 3]
        assert [event.data["position"] for event in came] == [f"orders={event.id.partition('.')[0]}" for event in came]
        shop.caught_up()
        assert came[-1].data["order"] in customer.get("/v1/orders").json()["items"]


def test_a_stream_goes_on_behind_the_last_event_without_a_gap_or_a_repeat(
    shop: Shop, staff: httpx.Client, customer_id: str
) -> None:
    order_ids = placed_by(shop, customer_id, 2)
    whose = {"customer_id": customer_id}
    with following(staff, STREAM, {}, whose) as events:
        listed = next(events)
    shop.place(shop.product(units=1))
    for order_id in order_ids:
        assert shop.http.post(f"/v1/orders/{order_id}/cancellation", json={"reason": "r"}).status_code == 200
    order_ids += placed_by(shop, customer_id)
    with following(staff, STREAM, {"Last-Event-ID": listed.id}, whose) as events:
        whole = taken(events, 5)
    assert {event.name for event in whole} == {"change"}
    assert changes(whole) == [(each, "OrderCancelled") for each in order_ids[:2]] + [(order_ids[2], e) for e in PAID]
    for number, event in enumerate(whole[:-1]):  # Cut anywhere, and gone on with: what is left, and only that.
        with following(staff, STREAM, {"Last-Event-ID": event.id}, whose) as events:
            assert taken(events, 4 - number) == whole[number + 1 :]
    with following(staff, STREAM, {"Last-Event-ID": whole[-1].id}, whose) as events:
        assert shop.http.post(f"/v1/orders/{order_ids[2]}/cancellation", json={"reason": "r"}).status_code == 200
        assert changes(taken(events, 1)) == [(order_ids[2], "OrderCancelled")]


def test_a_list_of_a_status_shows_who_comes_and_who_goes(shop: Shop, staff: httpx.Client, customer_id: str) -> None:
    whose = {"customer_id": customer_id, "status": "paid"}
    with following(staff, STREAM, {}, whose) as events:
        assert next(events).data["items"] == []
        (order_id,) = placed_by(shop, customer_id)
        assert shop.http.post(f"/v1/orders/{order_id}/cancellation", json={"reason": "r"}).status_code == 200
        came, gone = taken(events, 2)
    assert [(one.data["events"], one.data["order"]["status"]) for one in (came, gone)] == [
        (["OrderPaid"], "paid"),
        (["OrderCancelled"], "cancelled"),
    ]


def test_a_long_list_is_a_page_and_how_to_go_on(shop: Shop, staff: httpx.Client, customer_id: str) -> None:
    placed_by(shop, customer_id, 3)
    whose = {"customer_id": customer_id}
    with following(staff, STREAM, {}, {**whose, "limit": "2"}) as events:
        listed = next(events).data
    page = staff.get("/v1/orders", params={**whose, "limit": 2}).json()
    assert (listed["items"], listed["next"]) == (page["items"], page["next"])
    rest = staff.get("/v1/orders", params={**whose, "cursor": listed["next"]}).json()
    assert len(listed["items"]) + len(rest["items"]) == 3


@pytest.mark.parametrize("last", ["x", "", "1.", "-1.0", "1.0.0", "1.4096", "9" * 16, "999999999.0"])
def test_an_event_id_that_is_none_is_refused(staff: httpx.Client, last: str) -> None:
    problem(staff.get(STREAM, headers={"Last-Event-ID": last}), 422, "malformed", "header:Last-Event-ID")


def test_a_customer_follows_its_own_orders_only(nobody: httpx.Client, customer: httpx.Client, shop: Shop) -> None:
    problem(nobody.get(STREAM), 401, "unauthenticated")
    problem(customer.get(STREAM, params={"customer_id": "somebody-else"}), 403, "forbidden")
    problem(customer.get(STREAM, params={"status": "nonsense"}), 422, "malformed")
    body = {**order_of(shop.product(units=1)), "order_id": "stream"}
    problem(shop.http.post("/v1/orders", json=body), 422, "malformed", "/order_id")


def test_a_stream_waits_for_the_position_that_is_asked_for(
    shop: Shop, customer: httpx.Client, customer_id: str
) -> None:
    own = customer.post("/v1/orders", json=order_of(shop.product(units=1), customer_id=customer_id))
    position = {"Min-Position": own.headers["Position"], "Prefer": "wait=30"}
    with following(customer, STREAM, position) as events:
        assert [item["order_id"] for item in next(events).data["items"]] == [own.json()["order_id"]]
    late = {"Min-Position": "orders=999999999", "Prefer": "wait=0.1"}
    problem(customer.get(STREAM, headers=late), 503, "position_not_reached")


# -- inside --------------------------------------------------------------------------------------------------------


class Lists:
    """A log of orders that grows as it is told, its read model, and who follows it."""

    def __init__(self, client: Client, folder: Path, home: str, commits: int = 600) -> None:
        self.written = Written(MemoryLog("orders"))
        self.announcer = Announcer(client, home)
        self.standings = Standings(client, home)
        self.reader = Reader(folder)
        self.lists = OrderLists(
            self.written.log, DECODER, self.standings, self.reader, Changes(self.standings, self.reader)
        )
        files = ReadModelFiles(folder)
        self.store = Store.create(order_summary, files.next_build(order_summary), self.written.log.epoch)
        files.switch(order_summary.name, self.store.path)
        self._lives = lives(commits)
        self.grown = 0
        """Commits."""

    async def write(self, commits: int) -> None:
        """One more block in the log."""
        chunk = [lived.commit for lived in islice(self._lives, commits)]
        await self.written.bytes(seal(self.written.log.epoch, AT, self.written.prev, chunk))
        self.grown += len(chunk)

    async def show(self) -> None:
        """In the read model, and announced."""
        self.store.apply(await batch_of(self.written.log, DECODER))
        last = self.written.last
        await self.announcer.announce(Standing(order_summary.name, 1, "orders", last, last))

    async def grow(self, commits: int) -> None:
        await self.write(commits)
        await self.show()

    async def listed(self) -> Moment:
        moment = await self.reader.one(at_its_position(summaries_of(None, None)), after="", limit=10_000)
        assert moment is not None
        return moment

    async def log(self) -> list[Recorded]:
        """All that was written."""
        return [each for block in (await batch_of(self.written.log, DECODER)).blocks for each in block.recorded]


@pytest.fixture
async def lists(client: Client, unique: str, tmp_path: Path) -> AsyncIterator[Lists]:
    made = Lists(client, tmp_path, unique)
    await made.standings.start()
    await client.flush()
    yield made
    await made.lists.close()
    await made.reader.close()
    made.store.close()


def places(recorded: Iterable[Recorded]) -> list[int]:
    return [each.sequence * PLACES + each.offset for each in recorded]


async def test_the_list_and_what_is_handed_from_then_on_meet_whenever_one_begins(lists: Lists) -> None:
    await lists.grow(10)
    begun: list[tuple[Moment, Follower]] = []
    async with AsyncExitStack() as stack:
        for size in (7, 1, 12, 3, 9):
            growing = asyncio.create_task(lists.grow(size))
            follower = await stack.enter_async_context(lists.lists.following(EVERYTHING))
            begun.append((await lists.listed(), follower))
            await growing
        written = await lists.log()
        got: list[list[ListChange]] = [[] for _ in begun]

        def all_there() -> bool:
            for (moment, follower), changes in zip(begun, got, strict=True):
                changes += follower.taken(moment.sequence * PLACES + PLACES - 1)
            return all(changes and changes[-1].place == places(written)[-1] for changes in got)

        await lists.grow(2)
        written = await lists.log()
        await until(all_there)
    for (moment, follower), changes in zip(begun, got, strict=True):
        assert not follower.lost
        assert [change.place for change in changes] == places(
            each for each in written if each.sequence > moment.sequence
        )


async def test_what_the_list_does_not_show_yet_is_handed_on_when_it_does(lists: Lists) -> None:
    await lists.grow(5)
    await lists.write(5)
    async with lists.lists.following(EVERYTHING) as follower:
        assert (await lists.listed()).sequence == 2
        assert follower.begins == 2
        await turns()
        assert follower.taken(0) == []
        await lists.show()
        await until(lambda: follower.changed.is_set())
        assert [change.sequence for change in follower.taken(0)] == [3] * 5


async def test_a_new_follower_is_not_lost_by_the_end_of_those_before(lists: Lists) -> None:
    """The reader of the log that ended with them takes its time."""
    await lists.grow(1)
    for _ in range(5):
        async with lists.lists.following(EVERYTHING):
            await turns()
        async with lists.lists.following(EVERYTHING) as follower:
            await turns()
            await lists.grow(1)
            await follower.changed.wait()
            assert not follower.lost
            assert len(follower.taken(0)) == 1


async def test_a_change_is_the_order_as_it_was_then(lists: Lists) -> None:
    """Though the read model is further on by the time that the change is looked at."""
    for _ in range(3):
        await lists.grow(100)
    written = await lists.log()
    changes = await lists.lists.missed(EVERYTHING, 0, written[-1].sequence)
    assert changes is not None
    assert [change.place for change in changes] == places(written)
    for change, recorded in zip(changes[::7], written[::7], strict=True):
        name = recorded.commit.aggregate
        until_then = [each for each in written if each.commit.aggregate == name]
        until_then = until_then[: recorded.commit.version]
        with folded(order_summary, until_then) as then:
            assert change.order == then.one(SUMMARY, order_id=name)


async def test_what_was_missed_begins_behind_any_place_and_is_of_the_list(lists: Lists) -> None:
    await lists.grow(40)
    await lists.grow(40)
    written = await lists.log()
    last = written[-1].sequence
    whole = await lists.lists.missed(EVERYTHING, 0, last)
    assert whole is not None
    for change in whole[::9]:
        behind = await lists.lists.missed(EVERYTHING, change.place, last)
        assert behind == [each for each in whole if each.place > change.place]
    somebody = whole[0].order.customer_id
    for wanted in (OrderFilter(somebody, None), OrderFilter(None, "paid"), OrderFilter(somebody, "reserved")):
        assert await lists.lists.missed(wanted, 0, last) == [each for each in whole if wanted.takes(each)]
    assert await lists.lists.missed(EVERYTHING, (last + 3) * PLACES, last) == []


async def test_what_is_too_long_ago_is_not_read_again(lists: Lists, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        await lists.grow(1)
    assert await lists.lists.missed(EVERYTHING, 0, MISSED_RECORDS_MAX + 1) is None
    assert len(await lists.lists.missed(EVERYTHING, 0, 4) or ()) == 3
    monkeypatch.setattr("gateway.views.order_lists.MISSED_CHANGES_MAX", 2)
    assert await lists.lists.missed(EVERYTHING, 0, 4) is None


async def test_who_does_not_take_what_waits_is_lost_and_holds_nothing(
    lists: Lists, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.views.order_lists.WAITING_MAX", 20)
    await lists.grow(1)
    async with lists.lists.following(EVERYTHING) as slow, lists.lists.following(EVERYTHING) as quick:
        got: list[ListChange] = []
        for _ in range(3):
            await lists.grow(9)
            while len(got) < lists.grown - 1:
                await quick.changed.wait()
                got += quick.taken(0)
        assert (slow.lost, slow.taken(0), slow.changed.is_set()) == (True, [], False)
        assert not quick.lost


def test_a_whole_block_can_wait_for_a_follower_with_what_is_read_with_it() -> None:
    assert WAITING_MAX >= BLOCK_COMMITS_MAX + COMMITS_AT_ONCE


async def test_a_log_that_is_damaged_ends_every_stream(lists: Lists) -> None:
    await lists.grow(1)
    async with lists.lists.following(EVERYTHING) as follower:
        await lists.written.bytes(b"no block")
        await lists.announcer.announce(Standing(order_summary.name, 1, "orders", 3, 3))
        await until(lambda: follower.lost)
        assert follower.changed.is_set()


def test_every_status_that_an_event_may_end_is_named() -> None:
    """So whoever follows a list of one status hears of every order that leaves it."""
    commands: list[OrderCommand] = [
        PlaceOrder("o", "c", "EUR", (OrderLine("tea", "Tea", "drinks", 1, 100),)),
        ConfirmReservation("o"),
        ConfirmPayment("o", 100),
        ShipOrder("o"),
        DeliverOrder("o"),
        CancelOrder("o", "enough"),
    ]
    found: dict[type, set[str]] = {}
    states = [orders.initial("o")]
    for state in states:
        for command in commands:
            try:
                events = orders.decide({"o": state}, command)
            except Rejected:
                continue
            for event in events:
                found.setdefault(type(event), set()).add(type(state).__name__.lower())
                after = orders.evolve(state, event)
                if after not in states:
                    states.append(after)
    assert found.pop(OrderPlaced) == {"absent"}
    assert {event: set(statuses) for event, statuses in MOVES_FROM.items()} == found
