"""Contracts: the descriptions of all messages and routes, made from the types, checked and shown."""
