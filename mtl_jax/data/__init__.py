"""Data: pools of images by class, episodes drawn from them, and the data sets by name."""
