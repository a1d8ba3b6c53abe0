"""How much flicker the feature bank removes, measured on motion that is known exactly."""
