"""Lets a failing `then` show its difference: the specification is not a test module, so pytest is told of it."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("tests.specification")
