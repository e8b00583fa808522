"""The write path under crashes, power cuts and damage: what was answered, held against what is in the log."""
