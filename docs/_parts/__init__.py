"""What the site adds to Sphinx: pages made of the repository's other documents and of its registries."""
