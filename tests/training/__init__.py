"""Tests of training: data, losses, optimizer, steps and the loop."""
