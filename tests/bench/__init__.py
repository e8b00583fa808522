"""The pure parts of the benchmarks: what they count, how they sum it up, what they draw."""
