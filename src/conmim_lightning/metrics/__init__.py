"""What the features are worth, and how the pretext task stands."""
