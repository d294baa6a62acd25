"""Programs compiled for a device that isn't there: what they are, and what is said of them."""
