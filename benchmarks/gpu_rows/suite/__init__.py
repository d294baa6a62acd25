"""The parts that all rows of gpu.py share: jobs, processes, and profiles of kernels."""
