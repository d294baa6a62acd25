"""Street layout: the plan of a street, its ground, what lines it, and its traffic."""
