"""Command engines: what decides, in memory, one a partition, and what it rests on."""
