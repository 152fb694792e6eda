"""snnc.ops."""
