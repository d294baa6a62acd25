"""The surroundings of a command: cache folder, packages, dtype, a job's other processes."""
