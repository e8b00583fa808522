"""The tests of the read models: their store, each of them, and how they are kept, rebuilt and read."""
