"""What is on its way to customers. The goods themselves move at the carrier."""
