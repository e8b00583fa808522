"""What is on the shelf, what of it is promised to orders, and what came in."""
