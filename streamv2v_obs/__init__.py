"""streamv2v-obs: a live picture, redrawn from a prompt without flicker, as a virtual camera steered by OBS."""

__version__ = "0.1.0"
