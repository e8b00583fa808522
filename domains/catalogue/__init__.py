"""What can be bought: products, their categories and prices."""
