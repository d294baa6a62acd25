"""The sides of training.py and convergence.py: whole training steps."""
