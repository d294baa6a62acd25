"""What an evaluation returns: its scores, the authors' beside them, and how they came about."""
