"""What `m2f eval` prints: scores, and two evaluations beside each other."""
