"""The edge: routes, settings, supervision and the command line, against the real system."""
