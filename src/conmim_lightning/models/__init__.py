"""Networks; they do not know any loss."""
