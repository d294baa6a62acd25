"""From images to segmentations: before the network, after it, and the `Segmenter` around both."""
