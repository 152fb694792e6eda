"""ExpG-1: the encoding table and what follows from it, programs, and proofs about them."""
