"""Reviews: written by who received a product, once; read by everybody who has a token."""

from __future__ import annotations

from litestar import Response, get, post
from msgspec import Struct

from domains.kernel import Id
from domains.reviews.messages import PostReview, Score, Text
from gateway.http.bodies import JsonBody
from gateway.http.gate import AnyRequest, PathId, gate_of
from gateway.http.pages import LIMIT, Cursor, Limit, Page, after, page
from gateway.http.problems import Problem
from gateway.routes.orders import visible_order
from projections.products import PRODUCT, products
from projections.reviews import REVIEWS, reviews

PLACE_MAX = 10**18
"""Later than any."""


class ReviewBody(Struct, frozen=True):
    """`order_id` is the order with which the product came."""

    order_id: Id
    score: Score
    text: Text = ""


class PostedReview(Struct, frozen=True):
    sku: str
    order_id: str
    score: int
    text: str


class Review(Struct, frozen=True):
    score: int
    text: str
    written_at: str


@post("/v1/products/{sku:str}/reviews", dto=JsonBody[ReviewBody], return_dto=None, tags=["reviews"])
async def post_review(request: AnyRequest, sku: PathId, data: ReviewBody) -> Response[PostedReview]:
    """Review a product that came with an order. The order's customer does, or staff in its name; the same again changes
    nothing, another review of the same product is refused."""
    gate = gate_of(request)
    order = await visible_order(request, data.order_id)
    command = PostReview(sku, order.customer_id, data.order_id, data.score, data.text)
    written = await gate.execute(
        request, gate.key(request), command, correlation=data.order_id, location=f"/v1/products/{sku}/reviews"
    )
    return Response(PostedReview(sku, data.order_id, data.score, data.text), status_code=201, headers=written.headers)


@get("/v1/products/{sku:str}/reviews", tags=["reviews"])
async def list_reviews(
    request: AnyRequest, sku: PathId, limit: Limit = LIMIT, cursor: Cursor = ""
) -> Response[Page[Review]]:
    """The reviews of a product, the newest first."""
    gate = gate_of(request)
    headers = await gate.fresh(request, reviews, products)
    rows = await gate.reader.all(REVIEWS, sku=sku, before=_before(cursor), limit=limit + 1)
    if not rows and await gate.reader.one(PRODUCT, sku=sku) is None:
        raise Problem(404, "product_unknown", f"there is no product {sku}")
    found, links = page(request, rows, limit, lambda row: str(row.place))
    items = [Review(row.score, row.text, row.written_at) for row in found.items]
    return Response(Page(items, found.next), headers={**headers, **links})


def _before(cursor: str) -> int:
    place = after(cursor)
    if not place:
        return PLACE_MAX
    if not place.isdecimal() or int(place) > PLACE_MAX:
        raise Problem(422, "malformed", "not a cursor of ours", field="query:cursor")
    return int(place)


routes = [post_review, list_reviews]
