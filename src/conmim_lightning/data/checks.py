"""Checks of arguments."""


def check_at_least(smallest: int, **numbers: int | None) -> None:
    """Raise ValueError if a number is below ``smallest``; None stands for a default and is not checked."""
    for name, number in numbers.items():
        if number is not None and number < smallest:
            raise ValueError(f"{name} must be at least {smallest}, got {number}")
