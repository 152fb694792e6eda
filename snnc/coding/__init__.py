"""snnc.coding."""
