"""Image perturbation: parameters are sampled per image in the worker and applied to the batch on its device."""
