"""Work queues: what is done once, by whoever is free, at his own pace; commands that nobody waits for among it."""
