"""Tests of the operators: each in all its implementations, with its derivative."""
