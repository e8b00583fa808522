"""What an order is billed: an invoice for each order that was paid, and a credit note for one that was cancelled."""
