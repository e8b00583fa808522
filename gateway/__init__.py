"""The edge, and the one layer that knows everything: settings, composition, routes, effects, supervision, CLI."""
