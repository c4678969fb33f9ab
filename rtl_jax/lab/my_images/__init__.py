"""The task `my_images`: from a folder of photographs to a network in use."""
