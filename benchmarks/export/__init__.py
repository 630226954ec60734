"""What exported artifacts cost and give, side by side."""
