"""The sides of deformable_attention.py: the operator alone, its inputs, and how far sides agree."""
