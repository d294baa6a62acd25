"""A model as one program: written with the model's code, and run without it."""
