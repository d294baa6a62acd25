"""Tests of the network: its parts and the whole."""
