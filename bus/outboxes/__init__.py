"""State-stored services: a row an aggregate, and an outbox that a relay tells on a log."""
