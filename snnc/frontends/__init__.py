"""snnc.frontends."""
