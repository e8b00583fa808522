"""What was ordered, by whom, and how far it has come."""
