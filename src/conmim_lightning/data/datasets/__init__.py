"""From the images of a source to the samples that batches are made of."""
