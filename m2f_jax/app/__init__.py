"""A page in the browser, and its API: pictures in, segmentations out, one after the other."""
