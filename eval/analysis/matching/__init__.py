"""Which predicted instances are right, by the rules of Cityscapes, COCO and TIDE."""
