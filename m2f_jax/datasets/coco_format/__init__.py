"""Files in COCO's format, read strictly: every value that is used is checked here, once."""
