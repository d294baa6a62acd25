"""Data sets: files on disk, read as samples and ground truth."""
