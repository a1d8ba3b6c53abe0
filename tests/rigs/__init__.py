"""What tests start for real: displays, programs."""
