"""Owners: who serves which partition, by leases and by a rule of sharing."""
