"""What may be asked: orders with their lines, products, payments, shipments and customers. Reading only; writes go over
REST."""

from __future__ import annotations

from typing import NewType

import msgspec
import strawberry
from strawberry.extensions import AddValidationRules, DisableIntrospection, MaxTokensLimiter
from strawberry.schema.config import StrawberryConfig
from strawberry.types import ExecutionContext, Info

from domains.customers.customer import Erased, Registered, Unregistered
from gateway.graphql.loaders import Loaders
from gateway.graphql.weighing import FIRST_MAX, Bounded
from gateway.http.problems import Problem
from projections.order_detail import OrderLineRow, OrderRow
from projections.order_summary import summaries_of
from projections.payments import PaymentRow
from projections.products import ProductRow
from projections.shipments import ShipmentRow

TOKENS_MAX = 1_000
MinorUnits = NewType("MinorUnits", int)

_decode_customer = msgspec.json.Decoder(Unregistered | Registered | Erased).decode

Asked = Info[Loaders, None]


@strawberry.type(description="An amount in minor units of its currency: 1250 of EUR are 12.50 euros.")
class Money:
    amount: MinorUnits
    currency: str


@strawberry.type(
    description="A product as it is now. `available`: units that nobody has reserved; `rating`: its reviews' mean."
)
class Product:
    sku: str
    name: str
    category: str
    price: Money

    @strawberry.field
    async def available(self, info: Asked) -> int:
        level = await info.context.stock.load(self.sku)
        return level.available if level is not None else 0

    @strawberry.field
    async def rating(self, info: Asked) -> float | None:
        found = await info.context.ratings.load(self.sku)
        return found.rating if found is not None else None


@strawberry.type
class Line:
    sku: str
    name: str
    quantity: int
    unit_price: Money
    freight: Money

    @strawberry.field
    async def product(self, info: Asked) -> Product | None:
        row = await info.context.products.load(self.sku)
        return _product(row) if row is not None else None


@strawberry.type
class Payment:
    status: str
    authorised: Money
    captured: Money
    refunded: Money
    decline_code: str | None


@strawberry.type(description="Null until it is asked for, when the order is paid.")
class Shipment:
    status: str
    units: int
    tracking_id: str | None
    refusal_code: str | None
    scheduled_at: str
    picked_up_at: str | None
    delivered_at: str | None


@strawberry.type(description="Null where it was erased, or was never registered.")
class Customer:
    id: strawberry.ID
    name: str
    email: str


@strawberry.type
class Order:
    id: strawberry.ID
    customer_id: strawberry.ID
    status: str
    version: int
    items: Money
    freight: Money
    total: Money
    captured: Money
    reason: str | None
    placed_at: str

    @strawberry.field
    async def lines(self, info: Asked) -> list[Line]:
        return [_line(row, self.total.currency) for row in await info.context.lines.load(self.id)]

    @strawberry.field
    async def payment(self, info: Asked) -> Payment | None:
        row = await info.context.payments.load(self.id)
        return _payment(row) if row is not None else None

    @strawberry.field
    async def shipment(self, info: Asked) -> Shipment | None:
        row = await info.context.shipments.load(self.id)
        return _shipment(row) if row is not None else None

    @strawberry.field
    async def customer(self, info: Asked) -> Customer | None:
        state = await info.context.customers.load(self.customer_id)
        match _decode_customer(state) if state is not None else None:
            case Registered(name, email):
                return Customer(id=self.customer_id, name=name, email=email)
        return None


@strawberry.type(description="An order that one may not know of is null. `orders` go by id, from behind `after`.")
class Query:
    @strawberry.field
    async def order(self, info: Asked, id: strawberry.ID) -> Order | None:
        row = await info.context.orders.load(id)
        return _order(row) if row is not None else None

    @strawberry.field
    async def orders(
        self, info: Asked, customer_id: strawberry.ID | None = None, first: int = 20, after: strawberry.ID | None = None
    ) -> list[Order]:
        if not 1 <= first <= FIRST_MAX:
            raise Problem(422, "malformed", f"first is from 1 to {FIRST_MAX}")
        loaders = info.context
        if not loaders.principal.may("staff"):
            if customer_id not in (None, loaders.principal.subject):
                raise Problem(403, "forbidden", "a customer lists its own orders only")
            customer_id = strawberry.ID(loaders.principal.subject)
        query = summaries_of(customer_id, None)
        listed = await loaders.reader.all(query, customer_id=customer_id, status=None, after=after or "", limit=first)
        rows = await loaders.orders.load_many([each.order_id for each in listed])
        return [_order(row) for row in rows if row is not None]


class _Schema(strawberry.Schema):
    def process_errors(self, errors: object, execution_context: ExecutionContext | None = None) -> None:
        """Nothing: the route tells and logs them."""


SCHEMA = _Schema(
    Query,
    extensions=[lambda: AddValidationRules([Bounded]), lambda: MaxTokensLimiter(TOKENS_MAX), DisableIntrospection],
    config=StrawberryConfig(
        scalar_map={
            MinorUnits: strawberry.scalar(
                name="MinorUnits", description="A whole number, larger than 32 bits may hold.", serialize=int
            )
        }
    ),
)


def _money(cents: int, currency: str) -> Money:
    return Money(amount=MinorUnits(cents), currency=currency)


def _order(row: OrderRow) -> Order:
    return Order(
        id=strawberry.ID(row.order_id),
        customer_id=strawberry.ID(row.customer_id),
        status=row.status,
        version=row.version,
        items=_money(row.items_cents, row.currency),
        freight=_money(row.freight_cents, row.currency),
        total=_money(row.total_cents, row.currency),
        captured=_money(row.captured_cents, row.currency),
        reason=row.reason,
        placed_at=row.placed_at,
    )


def _line(row: OrderLineRow, currency: str) -> Line:
    return Line(
        sku=row.sku,
        name=row.name,
        quantity=row.quantity,
        unit_price=_money(row.unit_price_cents, currency),
        freight=_money(row.freight_cents, currency),
    )


def _payment(row: PaymentRow) -> Payment:
    return Payment(
        status=row.status,
        authorised=_money(row.authorised_cents, row.currency),
        captured=_money(row.captured_cents, row.currency),
        refunded=_money(row.refunded_cents, row.currency),
        decline_code=row.decline_code,
    )


def _shipment(row: ShipmentRow) -> Shipment:
    return Shipment(
        status=row.status,
        units=row.units,
        tracking_id=row.tracking_id,
        refusal_code=row.refusal_code,
        scheduled_at=row.scheduled_at,
        picked_up_at=row.picked_up_at,
        delivered_at=row.delivered_at,
    )


def _product(row: ProductRow) -> Product:
    price = _money(row.price_cents, row.currency)
    return Product(sku=row.sku, name=row.name, category=row.category, price=price)
