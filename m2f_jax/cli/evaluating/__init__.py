"""The parts of `m2f eval`: scoring a model or files, showing scores, comparing two evaluations."""
