"""Logs: the format of blocks, and where they lie; reading them, and watching over them."""
