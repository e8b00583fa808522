"""Reactors: whatever does something about events - processes, policies, effects - and deadlines for it."""
