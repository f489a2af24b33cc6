"""Networks; they know no loss."""
