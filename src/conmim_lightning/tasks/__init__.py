"""LightningModules: they introduce models to losses."""
