"""Sources, decoding, sampling and the LightningDataModules (in ``modules``)."""
