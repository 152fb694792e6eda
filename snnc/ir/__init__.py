"""snnc.ir."""
