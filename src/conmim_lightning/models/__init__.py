"""Networks, which do not depend on any loss."""
