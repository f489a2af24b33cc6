"""The error of a step whose loss or gradient is NaN or infinite."""


class NonFiniteError(RuntimeError):
    """A loss or gradient is not finite; the message names step, device and samples."""
