"""Measurements: one question a file, its budget in the docstring."""
