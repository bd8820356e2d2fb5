"""Image quality: features of images, distances between sets of them, and how sure one can be of these."""
