"""nats-servers: started, reached, and checked before anything is entrusted to them."""
