"""What a fine-tuned network says of new pictures: the task `predict`."""
