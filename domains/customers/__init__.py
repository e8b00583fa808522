"""Who buys: name, address and how to be reached. Kept as states, for people may ask to be forgotten."""
