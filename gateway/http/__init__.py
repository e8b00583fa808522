"""HTTP: what every route shares - bodies, gates, tokens, limits, problems, streams - and none of the resources."""
