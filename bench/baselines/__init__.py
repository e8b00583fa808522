"""How others append, each way as good as it gets with the same promise: acknowledged is on disk."""
