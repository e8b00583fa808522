"""The tests of the bus: on the log in memory and on a real nats-server."""
