"""Effects: the only code that touches the outside world. At least once, always under the same id."""
