"""The task `my_images`: from a folder of photographs to a trained network and a report."""
