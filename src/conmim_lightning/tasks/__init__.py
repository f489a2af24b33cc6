"""LightningModules, which connect models to losses."""
