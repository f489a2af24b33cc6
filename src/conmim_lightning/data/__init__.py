"""Images: sources, decoding, sampling, transforms, datasets and LightningDataModules (``datamodules``)."""
