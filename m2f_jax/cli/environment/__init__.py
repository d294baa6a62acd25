"""What commands find around them: the cache folder, packages, a job's other processes."""
