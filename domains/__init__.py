"""What the business is: pure deciders over immutable states. No I/O, no clock, no randomness, no logging."""
