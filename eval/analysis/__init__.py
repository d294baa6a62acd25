"""What lies behind a score: errors, thresholds, intervals, and comparisons of evaluations."""
