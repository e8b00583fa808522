"""What can be asked: read models in SQLite, disposable folds of the log, each fed by exactly one stream."""
