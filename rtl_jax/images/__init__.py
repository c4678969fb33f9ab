"""From a folder of photographs to a network in use: the task `my_images`."""
