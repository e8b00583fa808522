"""The tests of the deciders: pure, so nothing is started and nothing is faked."""
