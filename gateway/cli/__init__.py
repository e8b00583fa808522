"""The `tally` command: one file a family of verbs."""
