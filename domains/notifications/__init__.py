"""What customers are told by mail: what is to be sent, and what came of it. The mail itself is sent by an effect."""
