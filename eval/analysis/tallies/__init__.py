"""What is counted in each image, of which scores are made for any choice of images."""
