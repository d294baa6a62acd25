"""The sides of inference.py: the whole network, its stages and what surrounds it."""
