"""The embedded model: small enough to travel in the package."""
