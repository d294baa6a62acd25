"""What the rows of gpu.py run in: their job, their processes, and profiles of kernels."""
