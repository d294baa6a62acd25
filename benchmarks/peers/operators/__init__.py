"""The sides of deformable_attention.py: the operator alone."""
