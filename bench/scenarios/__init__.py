"""Scenarios: a system in trouble, with and without what helps, under the same load; a plot and a computed verdict."""
