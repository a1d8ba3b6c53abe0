"""Pure tensors: the StreamV2V method on top of diffusers' modules."""

import logging
import os

# Read by OpenMP when torch is first imported. By default its threads spin while they wait for each other; as soon as
# another program wants a core too (a game, OBS), a frame takes several times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# It warns at import where it has no kernels; which attention is used is chosen by device, and reported.
logging.getLogger("xformers").setLevel(logging.ERROR)
