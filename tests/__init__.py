"""Tests, behind the doors of what they test; here at the top those of the whole."""
