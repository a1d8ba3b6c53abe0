"""The words that the demo model learns: each style and mood in many phrasings, among words it ignores."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np


def _phrases(text: str) -> tuple[str, ...]:
    """Phrases parted by slashes."""
    return tuple(" ".join(phrase.split()) for phrase in text.split("/"))


STYLE_PHRASES: dict[str, tuple[str, ...]] = {
    "photo": _phrases(
        """
        a photo / a photograph / photo / realistic / a realistic photo / photorealistic / natural / real life / a
        plain picture / a sharp photo / photography / as it is / a realistic picture / dslr photo
        """
    ),
    "oil": _phrases(
        """
        an oil painting / oil painting / oil paint / oil on canvas / painted in oil / thick brush strokes / impasto /
        a painting / impressionist painting / van gogh style / in the style of van gogh / monet / a classical
        painting / painterly brush strokes / brushstrokes on canvas / oils
        """
    ),
    "watercolor": _phrases(
        """
        a watercolor / watercolor painting / watercolour / a watercolour painting / aquarelle / watercolors / soft
        washes of watercolor / painted in watercolor / water color / wet paint on paper / ink wash
        """
    ),
    "pencil": _phrases(
        """
        a pencil drawing / pencil sketch / a sketch / drawn in pencil / graphite drawing / hatching / charcoal
        drawing / black and white sketch / line drawing / pencil / hand drawn sketch / a drawing
        """
    ),
    "anime": _phrases(
        """
        anime / anime style / an anime drawing / cel shading / cel shaded / a cartoon / cartoon style / manga /
        ghibli style / japanese animation / animated film / toon / a cartoon drawing / anime screenshot
        """
    ),
    "comic": _phrases(
        """
        a comic / comic book / comic book style / comic strip / halftone dots / pop art / graphic novel / a comic
        panel / superhero comic / bold ink lines / roy lichtenstein / comics
        """
    ),
    "pixel": _phrases(
        """
        pixel art / 8 bit / 16 bit / 8bit game / retro game / pixelated / pixels / a retro video game / pixel art
        style / low resolution game / sprite / arcade game / blocky pixels / minecraft
        """
    ),
    "neon": _phrases(
        """
        neon / neon lights / neon glow / glowing neon lines / cyberpunk / cyberpunk style / neon sign / synthwave /
        glowing edges / tron / vaporwave / glowing lines in the dark / neon city / blacklight
        """
    ),
    "blueprint": _phrases(
        """
        a blueprint / blueprint / technical drawing / white lines on blue / architect's plan / a technical plan /
        blueprint style / cyanotype / engineering drawing / construction plan / schematic
        """
    ),
    "sepia": _phrases(
        """
        sepia / sepia photo / an old photograph / old photo / vintage photograph / antique photo / sepia tone / a
        faded old picture / daguerreotype / victorian photograph / vintage / an old brown photo
        """
    ),
    "glass": _phrases(
        """
        stained glass / a stained glass window / church window / mosaic / a mosaic / cathedral glass / leaded glass /
        stained glass style / colored glass / tiffany glass / glass mosaic / mosaic tiles
        """
    ),
    "clay": _phrases(
        """
        claymation / clay / plasticine / made of clay / clay figures / stop motion / a clay model / play dough /
        wallace and gromit / clay animation / modelled in clay / modeling clay / soft clay sculpture
        """
    ),
}
"""Keys as in ``teachers.STYLES``."""

MOOD_PHRASES: dict[str, tuple[str, ...]] = {
    "warm": _phrases(
        """
        in warm light / warm / warm colors / golden hour / candle light / in candlelight / cozy / golden light
        """
    ),
    "cold": _phrases(
        """
        in cold light / cold / cold colors / winter / icy / in winter / frozen / cool colors / cool tones
        """
    ),
    "night": _phrases("at night / night / moonlight / in moonlight / dark / midnight / by night / in the dark"),
    "sunset": _phrases("at sunset / sunset / dusk / at dusk / evening / sunrise / at dawn / purple and orange"),
    "blue and gold": _phrases("blue and gold / in blue and gold / gold and blue / gold / royal blue and gold"),
    "teal and orange": _phrases(
        "teal and orange / cinematic / movie still / orange and teal / cinematic colors / film"
    ),
    "pastel": _phrases(
        "pastel / pastel colors / soft colors / pale / in pastel / light colors / faded colors / dreamy"
    ),
    "vivid": _phrases(
        "vivid / vivid colors / vibrant / bright colors / saturated / colorful / colourful / psychedelic"
    ),
    "black and white": _phrases(
        "black and white / monochrome / in black and white / greyscale / grayscale / noir / film noir"
    ),
    "pink": _phrases("pink / in pink / rose / pink and purple / pink colors / barbie / magenta"),
    "green": _phrases("green / in green / forest light / green light / emerald / matrix / green colors / jungle"),
}
"""Keys as in ``moods.MOODS``."""

SUBJECTS = _phrases(
    """
    a cat / a person / a man / a woman / a face / a portrait / a streamer / a dog / a city / a street / a room / a
    landscape / mountains / a forest / the sea / a house / a car / a cup / a game / a desktop / a screen / people / a
    girl / a boy / a robot / a knight / a dragon / a castle / space / an astronaut / flowers / a tree / a horse / a
    scene / a view / a table / food / a bird / the sky / my desk / a gamer / a band / a singer / a hero
    """
)

FILLERS = _phrases(
    """
    beautiful / detailed / highly detailed / masterpiece / best quality / intricate / award winning / 4k / 8k /
    trending / sharp focus / artwork / art / illustration / style / amazing / stunning / high quality / artistic /
    elegant / epic / fantasy / cute / modern / simple / nice / pretty / professional / famous / please
    """
)

UNKNOWN = "[UNK]"


def words_of(prompt: str) -> list[str]:
    """Lower case words and numbers; all else separates them."""
    return re.findall(r"[a-z0-9]+", prompt.lower())


def vocabulary() -> list[str]:
    """Every word that any phrase, subject or filler uses, sorted."""
    phrases = [p for group in (*STYLE_PHRASES.values(), *MOOD_PHRASES.values(), SUBJECTS, FILLERS) for p in group]
    links = "of in the style with and as drawn painted like made by an a made rendered looks half mixed blended into"
    return sorted({word for phrase in (*phrases, links) for word in words_of(phrase)})


def _pick(rng: np.random.Generator, choices: Sequence[str]) -> str:
    return choices[int(rng.integers(len(choices)))]


def write_prompt(rng: np.random.Generator, style: str, second: str | None = None, mood: str | None = None) -> str:
    """Some way of asking for a style (or the blend of two) in a mood.

    Subject, praise, word order and words that nobody taught vary, so that none of them comes to mean anything.
    """
    named = _pick(rng, STYLE_PHRASES[style])
    if second is not None:
        other = _pick(rng, STYLE_PHRASES[second])
        pair = [named, other] if rng.random() < 0.5 else [other, named]
        named = _pick(rng, (" and ", " mixed with ", ", ", " blended with ", " with ", " as ")).join(pair)
    parts = [named]
    if rng.random() < 0.55:
        subject = _pick(rng, SUBJECTS)
        join = _pick(rng, ("{0} of {1}", "{1}, {0}", "{1} as {0}", "{0}, {1}", "{1} in the style of {0}", "{0} {1}"))
        parts = [join.format(named, subject)]
    if mood is not None:
        parts.insert(0 if rng.random() < 0.25 else len(parts), _pick(rng, MOOD_PHRASES[mood]))
    for _ in range(int(rng.choice([0, 0, 0, 1, 1, 2]))):
        parts.insert(int(rng.integers(len(parts) + 1)), _pick(rng, FILLERS))
    prompt = _pick(rng, (", ", " ", ", ")).join(parts)
    if rng.random() < 0.3:
        words = prompt.split(" ")
        for _ in range(int(rng.integers(1, 4))):
            words.insert(int(rng.integers(len(words) + 1)), UNKNOWN)
        prompt = " ".join(words)
    return prompt
