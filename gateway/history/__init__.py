"""Recorded history: logs in files, and the gate that today's code has to pass with them."""
