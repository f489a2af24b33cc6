"""LightningModules; they connect models to losses."""
