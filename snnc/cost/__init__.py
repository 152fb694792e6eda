"""snnc.cost."""
