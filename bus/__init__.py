"""How facts and requests move: the log, the engine, senders, reactors. The only layer that speaks NATS.

It knows no concrete domain: what it hosts is handed in as data (`domains.kernel.Domain`).
"""
