"""The outputs and nothing else, in a process of its own: what they need of memory is not the service's doing.

Reads publish settings as JSON from its only argument, shows moving pictures in its outputs at their rate, with one
viewer in the browser's place, and says "shown" after so many seconds; ends when its standard input is closed.
"""

from __future__ import annotations

import sys
import threading
import time

import numpy as np

from streamv2v_obs.publish.browser import BrowserSink
from streamv2v_obs.publish.outputs import open_sinks
from streamv2v_obs.settings import PublishSettings

SECONDS = 5.0


def main() -> None:
    """Show pictures, then hold still to be looked at."""
    settings = PublishSettings.model_validate_json(sys.argv[1])
    browser = BrowserSink(settings.browser.quality)
    outputs, _ = open_sinks(settings, browser)
    for output in outputs:
        output.start()

    def look() -> None:
        number = 0
        while (picture := browser.wait_jpeg(number, SECONDS)) is not None:
            number, _ = picture

    threading.Thread(target=look, daemon=True).start()
    noise = np.random.default_rng(0).integers(0, 255, (settings.height or 512, settings.width or 512, 3), np.uint8)
    for number in range(int(SECONDS * settings.fps)):
        picture = np.roll(noise, number, 1)
        for output in outputs:
            output.put(picture)
        time.sleep(1 / settings.fps)
    print("shown", flush=True)
    sys.stdin.read()
    for output in outputs:
        output.stop()


if __name__ == "__main__":
    main()
