"""What a product decides."""

from __future__ import annotations

from msgspec.structs import replace

from domains.catalogue.messages import DefineProduct, ProductDefined, ProductRevised
from domains.catalogue.product import catalogue
from tests.specification import given

define = DefineProduct("tea", "Green tea", "drinks", 1_250, "EUR")
defined = ProductDefined("tea", "Green tea", "drinks", 1_250, "EUR")
revised = ProductRevised("tea", "Green tea", "drinks", 990, "EUR")


def test_an_unknown_product_is_defined() -> None:
    given(catalogue).when(define).then(defined)


def test_another_product_does_not_count() -> None:
    given(catalogue, replace(defined, sku="coffee")).when(define).then(defined)


def test_defining_a_product_as_it_is_changes_nothing() -> None:
    given(catalogue, defined).when(define).then()


def test_each_of_its_fields_can_be_revised() -> None:
    product = given(catalogue, defined)
    product.when(replace(define, name="Tea")).then(ProductRevised("tea", "Tea", "drinks", 1_250, "EUR"))
    product.when(replace(define, category="food")).then(ProductRevised("tea", "Green tea", "food", 1_250, "EUR"))
    product.when(replace(define, price_cents=990)).then(revised)
    product.when(replace(define, currency="BRL")).then(ProductRevised("tea", "Green tea", "drinks", 1_250, "BRL"))


def test_revising_a_product_to_what_it_was_revised_to_changes_nothing() -> None:
    given(catalogue, defined, revised).when(replace(define, price_cents=990)).then()


def test_a_revision_can_be_taken_back() -> None:
    given(catalogue, defined, revised).when(define).then(ProductRevised("tea", "Green tea", "drinks", 1_250, "EUR"))
