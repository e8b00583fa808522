"""The tests: one folder a layer, and journeys across all of them."""
