"""Stand-ins for the outside world, each its own process: what a demo and the tests talk to, not the real thing."""
