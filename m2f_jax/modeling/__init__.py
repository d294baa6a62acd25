"""The network: its parts, the whole that they make, and its parameters by name."""
