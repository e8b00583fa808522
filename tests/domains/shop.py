"""A shop in memory: the real deciders, and readers that carry the messages between them, in whatever order one likes.

What holds in the product holds here, and nothing more: a reader works off what concerns one order in the order of its
source, while every other reader may be faster or slower; a reader that crashes begins again, so that everything comes
at least once; an engine that wrote something under a command's id does nothing when that id comes again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar, assert_never

from domains.inventory.messages import (
    InventoryCommand,
    ReceiveStock,
    ReleaseStock,
    ReserveStock,
    StockRefused,
    StockReserved,
)
from domains.inventory.policy import inventory_policy
from domains.inventory.stock import inventory
from domains.kernel import Asleep, Policy, Rejected, Wake
from domains.notifications.messages import NoticeRequested, NotificationCommand, SendOrderConfirmation
from domains.notifications.notice import notifications
from domains.notifications.policy import notifications_policy
from domains.orders.messages import (
    CancelOrder,
    ConfirmPayment,
    ConfirmReservation,
    DeliverOrder,
    EndOverdue,
    FollowOn,
    OrderCancelled,
    OrderCommand,
    OrderPlaced,
    OrderShipped,
    PlaceOrder,
    ShipOrder,
)
from domains.orders.order import orders
from domains.orders.policy import orders_policy
from domains.orders.policy import timing as orders_timing
from domains.payments.messages import (
    ConfirmCharge,
    ConfirmRefund,
    DeclineCharge,
    PaymentCaptured,
    PaymentCommand,
    PaymentDeclined,
    PaymentRequested,
    RefundPayment,
    RefundRequested,
    RequestPayment,
)
from domains.payments.payment import payments
from domains.payments.policy import payments_policy
from domains.processes.checkout import checkout
from domains.processes.messages import CheckoutEvent, CheckoutStep, DeadlinePassed, Observe
from domains.shipping.messages import (
    CancelPickup,
    ConfirmCancellation,
    ConfirmPickup,
    RefusePickup,
    SchedulePickup,
    ShipmentCancelled,
    ShipmentDelivered,
    ShipmentPickedUp,
    ShipmentRecalled,
    ShipmentRefused,
    ShipmentScheduled,
    ShippingCommand,
)
from domains.shipping.policy import shipping_policy
from domains.shipping.shipment import shipping
from tests.specification import Hosted

State = TypeVar("State")
Command = TypeVar("Command")
Event = TypeVar("Event")
Message = TypeVar("Message")


CUSTOMER = "customer to orders"
POLICIES: tuple[Policy[Any], ...] = (
    orders_policy,
    inventory_policy,
    payments_policy,
    shipping_policy,
    notifications_policy,
)


@dataclass
class Reader:
    """What is to be delivered to one place about one order, in this order, and how much of it was."""

    name: str
    deliveries: list[Callable[[], None]] = field(default_factory=list)
    done: int = 0

    def deliver(self) -> None:
        self.deliveries[self.done]()
        self.done += 1


class Shop:
    """`declining` are the orders whose cards the provider declines, `uncarried` those whose parcels the carrier
    refuses. Those who are `silent` answer nothing until they are woken up. Any refusal of any command is an error
    here."""

    def __init__(
        self,
        stock: Mapping[str, int],
        declining: Collection[str] = (),
        uncarried: Collection[str] = (),
        silent: Collection[str] = (),
    ) -> None:
        self.orders = Hosted(orders)
        self.inventory = Hosted(inventory)
        self.payments = Hosted(payments)
        self.shipping = Hosted(shipping)
        self.checkout = Hosted(checkout)
        self.notifications = Hosted(notifications)
        self.total: Counter[str] = Counter()
        """What each order is worth, in cents."""
        self.captured: Counter[str] = Counter()
        """The provider's books, in cents."""
        self.refunded: Counter[str] = Counter()
        self.story: list[str] = []
        """All deliveries so far, for who has to find out what went wrong."""
        self.confirmed: Counter[str] = Counter()
        """How often customers are told of each order."""
        self.carried: set[str] = set()
        """The parcels that the carrier has."""
        self._declining = declining
        self._uncarried = uncarried
        self.silent = set(silent)
        self._alarms: dict[str, Callable[[], None]] = {}
        """What rings for an order when all is quiet."""
        self._readers: dict[str, Reader] = {}
        self._answered: set[str] = set()
        self._called_off: set[str] = set()
        self._choreographed: set[str] = set()
        for sku, quantity in stock.items():
            self.inventory.handle(ReceiveStock(sku, "opening", quantity))

    def deliveries(self) -> list[Callable[[], None]]:
        """What may happen next: the next delivery of each reader. Empty when all is quiet."""
        return [
            reader.deliver
            for reader in self._readers.values()
            if reader.done < len(reader.deliveries) and not any(f"to {name} " in reader.name for name in self.silent)
        ]

    def late(self) -> bool:
        """Time passes until the next deadline of each order. Whether there was one."""
        alarms, self._alarms = self._alarms, {}
        for ring in alarms.values():
            ring()
        return bool(alarms)

    def wake_up(self) -> None:
        """Whoever was silent answers from now on."""
        self.silent.clear()

    def crashes(self) -> list[Callable[[], None]]:
        """What may happen instead: any reader that has done something begins again."""
        return [partial(self._crash, reader) for reader in self._readers.values() if reader.done]

    def customer(self, place: PlaceOrder, *, cancels: bool = False) -> None:
        """A customer who places an order, and perhaps cancels it, whenever that may be."""
        self._later(CUSTOMER, place.order_id, self._to_orders, place)
        if cancels:
            self.customer_cancels(place.order_id)

    def customer_cancels(self, order_id: str) -> None:
        self._later(CUSTOMER, order_id, self._to_orders, CancelOrder(order_id, "no more"))

    def orders_hears(self, command: OrderCommand) -> None:
        """At once, before anything else is delivered."""
        self._to_orders(f"at once: {command}", command)

    def _crash(self, reader: Reader) -> None:
        self.story.append(f"{reader.name}: crashes")
        reader.done = 0

    def _later(self, route: str, order_id: str, act: Callable[[str, Message], None], message: Message) -> None:
        name = f"{route} about {order_id}"
        reader = self._readers.setdefault(name, Reader(name))
        delivery = f"{name}, {len(reader.deliveries)}"

        def deliver() -> None:
            self.story.append(f"{delivery}: {message}")
            try:
                act(delivery, message)
            except Rejected as refusal:
                if route == CUSTOMER and refusal.code == "order_already_shipped":
                    return  # A customer may be too late.
                raise AssertionError("\n".join([*self.story, f"refused: {refusal.code}"])) from refusal

        reader.deliveries.append(deliver)

    def _handle(self, hosted: Hosted[State, Command, Event], id: str, command: Command) -> list[Event]:
        if id in self._answered:
            return []
        events = hosted.handle(command)
        if events:
            self._answered.add(id)
        return events

    def _to_orders(self, id: str, command: OrderCommand) -> None:
        for event in self._handle(self.orders, id, command):
            if isinstance(event, OrderPlaced):
                self.total[event.order_id] = event.total_cents
                if event.workflow == "choreographed":
                    self._choreographed.add(event.order_id)
            match orders_timing(event):
                case Wake(_, EndOverdue() as ended):
                    self._alarms[event.order_id] = partial(self.orders_hears, ended)
                case Asleep():
                    self._alarms.pop(event.order_id, None)
            self._policies("orders", event)
            if isinstance(event, OrderPlaced | OrderShipped | OrderCancelled):
                self._observed("orders", event)

    def _observed(self, log: str, event: CheckoutEvent) -> None:
        """Of an order that nobody conducts the checkout would only look on."""
        if event.order_id not in self._choreographed:
            self._later(f"{log} to checkout", event.order_id, self._to_checkout, Observe(event.order_id, event))

    def _policies(self, log: str, event: Any) -> None:
        """What services do by themselves. That it means nothing for an order that is conducted is the business of who
        is told, and shown elsewhere: here it would only be more to deliver."""
        order_id = getattr(event, "order_id", "")  # What has none is no policy's business.
        reach: dict[str, Callable[[str, Any], None]] = {
            "orders": self._to_orders,
            "inventory": self._to_inventory,
            "payments": self._to_payments,
            "shipping": self._to_shipping,
            "notifications": self._to_notifications,
        }
        for policy in POLICIES:
            if type(event) in policy.observes.get(log, ()):
                for command in policy.react(event):
                    if not isinstance(command, FollowOn | SendOrderConfirmation) or order_id in self._choreographed:
                        self._later(f"{log} to {policy.name}", order_id, reach[policy.name], command)

    def _to_inventory(self, id: str, command: InventoryCommand) -> None:
        for event in self._handle(self.inventory, id, command):
            self._policies("inventory", event)
            if isinstance(event, StockReserved | StockRefused):
                self._observed("inventory", event)

    def _to_payments(self, id: str, command: PaymentCommand) -> None:
        for event in self._handle(self.payments, id, command):
            self._policies("payments", event)
            if isinstance(event, PaymentCaptured | PaymentDeclined):
                self._observed("payments", event)
            elif isinstance(event, PaymentRequested | RefundRequested):
                self._later("payments to provider", event.order_id, self._to_provider, event)

    def _to_shipping(self, id: str, command: ShippingCommand) -> None:
        for event in self._handle(self.shipping, id, command):
            self._policies("shipping", event)
            if isinstance(event, ShipmentPickedUp | ShipmentRefused | ShipmentCancelled | ShipmentDelivered):
                self._observed("shipping", event)
            elif isinstance(event, ShipmentScheduled | ShipmentRecalled):
                self._later("shipping to carrier", event.order_id, self._to_carrier, event)

    def _to_notifications(self, id: str, command: NotificationCommand) -> None:
        for event in self._handle(self.notifications, id, command):
            self.confirmed[event.order_id] += isinstance(event, NoticeRequested)

    def _to_carrier(self, id: str, event: ShipmentScheduled | ShipmentRecalled) -> None:
        """What it has it brings back when it is called off; who asks again for a pickup hears what was said first."""
        order_id = event.order_id
        answer: ShippingCommand
        match event:
            case ShipmentScheduled() if order_id in self._uncarried:
                answer = RefusePickup(order_id, "not_carried")
            case ShipmentScheduled():
                if order_id not in self._called_off:
                    self.carried.add(order_id)
                answer = ConfirmPickup(order_id, f"pu_{order_id}")
            case ShipmentRecalled():
                self._called_off.add(order_id)
                self.carried.discard(order_id)
                answer = ConfirmCancellation(order_id)
            case _:
                assert_never(event)
        self._to_shipping(id, answer)

    def _to_provider(self, id: str, event: PaymentRequested | RefundRequested) -> None:
        """The order is the idempotency key: a repeat moves no money, and must be of the same amount."""
        order_id, amount_cents = event.order_id, event.amount_cents
        answer: PaymentCommand
        match event:
            case PaymentRequested() if order_id in self._declining:
                answer = DeclineCharge(order_id, "card_declined")
            case PaymentRequested():
                assert self.captured.setdefault(order_id, amount_cents) == amount_cents
                answer = ConfirmCharge(order_id, f"ch_{order_id}", amount_cents)
            case RefundRequested():
                assert self.refunded.setdefault(order_id, amount_cents) == amount_cents
                answer = ConfirmRefund(order_id, f"re_{order_id}", amount_cents)
            case _:
                assert_never(event)
        self._to_payments(id, answer)

    def _to_checkout(self, id: str, told: Observe | DeadlinePassed) -> None:
        for advanced in self._handle(self.checkout, id, told):
            order_id = advanced.order_id
            if advanced.alarm is not None:
                passed = DeadlinePassed(order_id, advanced.alarm.step, advanced.alarm.attempt)
                self._alarms[order_id] = partial(self._to_checkout, f"at once: {len(self.story)} {passed}", passed)
            elif advanced.over:
                self._alarms.pop(order_id, None)
            for step in advanced.steps:
                self._relay(step)

    def _relay(self, step: CheckoutStep) -> None:
        match step:
            case ConfirmReservation() | ConfirmPayment() | CancelOrder() | ShipOrder() | DeliverOrder():
                self._later("checkout to orders", step.order_id, self._to_orders, step)
            case ReserveStock() | ReleaseStock():
                self._later("checkout to inventory", step.order_id, self._to_inventory, step)
            case RequestPayment() | RefundPayment():
                self._later("checkout to payments", step.order_id, self._to_payments, step)
            case SchedulePickup() | CancelPickup():
                self._later("checkout to shipping", step.order_id, self._to_shipping, step)
            case SendOrderConfirmation():
                self._later("checkout to notifications", step.order_id, self._to_notifications, step)
            case _:
                assert_never(step)
