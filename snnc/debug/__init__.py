"""snnc.debug."""
