"""The compiled programs of a segmenter: what they compute, where, and how they are kept."""
