"""The parts of `m2f train`: its data, its settings, and what it shows on the way."""
