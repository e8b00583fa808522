"""Real orders, as they are: a folder in Olist's format becomes commands, and is compared with what came of it."""
