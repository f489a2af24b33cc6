"""Image perturbation: parameters drawn per sample in the worker, applied to the batch on its device."""
