"""What was asked for, captured and given back, an order at a time. The money itself moves at the provider."""
