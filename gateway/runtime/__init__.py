"""What runs: processes and their parts, how they are started, supervised and found."""
