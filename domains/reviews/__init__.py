"""What buyers think of products: who received one may review it, as far as the orders have told."""
