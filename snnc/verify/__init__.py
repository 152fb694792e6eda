"""snnc.verify."""
