"""What commands show on a terminal: text, progress and scores; and Ctrl-C there."""
