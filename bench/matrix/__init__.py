"""The decision matrix: one reservation, made in five styles of communication, measured and disturbed in one run."""
