"""One aggregated answer from several services, for a client that would else ask many times. Optional: the extra
`graphql`."""
