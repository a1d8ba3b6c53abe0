"""What the demo model is taught with: scenes, styles, moods and prompts are varied, seeded and in bounds."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

from streamv2v_obs.demo import moods, photographs, prompts
from streamv2v_obs.demo.chance import Chance, latent_noise
from streamv2v_obs.demo.pool import NONE, draw_label, make_target
from streamv2v_obs.demo.scenes import SCENES, draw_scene
from streamv2v_obs.demo.strokes import to_picture
from streamv2v_obs.demo.teachers import STYLES, teach
from streamv2v_obs.frames import Pixels

SIDE = 96


@pytest.fixture(scope="module")
def scene() -> Pixels:
    return draw_scene(np.random.default_rng(1), SIDE, SIDE, "person")


def difference(first: Pixels, second: Pixels) -> float:
    return float(np.abs(first.astype(int) - second.astype(int)).mean())


@pytest.mark.parametrize("kind", SCENES)
def test_a_scene_is_its_seed_and_no_two_are_alike(kind: str) -> None:
    first, again, other = (draw_scene(np.random.default_rng(seed), SIDE, SIDE, kind) for seed in (1, 1, 2))
    assert first.shape == (SIDE, SIDE, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert difference(first, other) > 5
    assert first.std() > 3


def test_held_out_photographs_are_not_drawn_from() -> None:
    names, shares = photographs.training_photographs()
    assert not set(names) & set(photographs.HELD_OUT)
    assert sum(shares) == pytest.approx(1)
    assert all("CC0" in photographs.LICENCES[n] or "public domain" in photographs.LICENCES[n] for n in names)


@pytest.mark.parametrize("style", STYLES)
def test_a_style_changes_the_picture_and_keeps_its_size(style: str, scene: Pixels) -> None:
    made = teach(Chance.seeded(0, scene), style, scene)
    assert made.shape == scene.shape
    assert np.array_equal(made, teach(Chance.seeded(0, scene), style, scene))
    assert difference(made, scene) > (1 if style == "photo" else 4)


@pytest.mark.parametrize("style", sorted(set(STYLES) - {"photo"}))
def test_part_of_a_style_is_left_to_chance(style: str, scene: Pixels) -> None:
    first, second = (teach(Chance.seeded(seed, scene), style, scene) for seed in (0, 1))
    # Grain, strokes and lead differ; the picture under them, seen from afar, hardly does.
    assert difference(first, second) > 0.3
    afar = [cv2.blur(picture, (33, 33)).astype(np.uint8) for picture in (first, second)]
    assert difference(afar[0], afar[1]) < 0.5 * max(difference(first, scene), 12)


def test_styles_are_clearly_different(scene: Pixels) -> None:
    made = [teach(Chance.seeded(0, scene), style, scene) for style in STYLES]
    apart = [difference(a, b) for n, a in enumerate(made) for b in made[:n]]
    assert min(apart) > 4
    assert len(made) >= 10


@pytest.mark.parametrize("mood", moods.MOODS)
def test_a_mood_moves_colours_and_stays_in_bounds(mood: str, scene: Pixels) -> None:
    toned = moods.MOODS[mood](to_picture(scene))
    assert toned.dtype == np.float32
    assert toned.min() >= 0
    assert toned.max() <= 1
    assert np.abs(toned - to_picture(scene)).mean() > 0.02


def test_every_style_and_mood_has_words() -> None:
    assert list(prompts.STYLE_PHRASES) == list(STYLES)
    assert list(prompts.MOOD_PHRASES) == list(moods.MOODS)
    assert all(len(set(phrases)) >= 5 for phrases in prompts.STYLE_PHRASES.values())


def test_no_phrase_stands_for_two_styles() -> None:
    phrases = [phrase for group in prompts.STYLE_PHRASES.values() for phrase in group]
    assert len(phrases) == len(set(phrases))


def test_prompts_vary_and_are_their_seed() -> None:
    def write(seed: int) -> str:
        return prompts.write_prompt(np.random.default_rng(seed), "oil", "neon", "night")

    assert write(3) == write(3)
    assert len({write(seed) for seed in range(50)}) > 45


def test_a_label_says_how_its_target_was_made(scene: Pixels) -> None:
    plain = make_target(Chance.seeded(0, scene), scene, np.array([9, NONE, NONE], np.int16))
    night = make_target(Chance.seeded(0, scene), scene, np.array([9, NONE, 2], np.int16))
    assert np.array_equal(plain, teach(Chance.seeded(0, scene), "sepia", scene))
    assert night.mean() < 0.7 * plain.mean()
    labels = np.stack([draw_label(np.random.default_rng(seed), 4) for seed in range(300)])
    assert set(labels[:, 0]) == {4}
    assert 4 not in labels[:, 1]
    assert 0.1 < (labels[:, 2] != NONE).mean() < 0.4


def test_what_chance_decides_follows_from_the_noise_at_that_place() -> None:
    noise = latent_noise(np.random.default_rng(0), 256, 256)
    whole, part = Chance(noise), Chance(noise[:, 8:24, 4:20])
    inside = np.s_[40:88, 40:88]

    def of_whole(field: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return field[64:192, 32:160][inside]

    # Features of 20 pixels reach 25 to each side, less than the 40 that are left out.
    for cell in (4, 9, 20):
        first, second = whole.smooth(cell), part.smooth(cell)
        assert np.allclose(of_whole(first), second[inside], atol=0.02)
        assert abs(first.mean()) < 0.3
        assert 0.7 < first.std() < 1.3
    assert np.abs(whole.smooth(9) - whole.smooth(9)).mean() > 0.5, "each field is another one"
    other = noise.copy()
    other[:, :4] = 0
    changed = np.abs(Chance(other).smooth(8) - Chance(noise).smooth(8))
    assert changed[:20].mean() > 0.3
    assert changed[64:].max() < 0.01, "noise decides what is near it"


def test_ripples_are_waves_of_their_period_whose_place_is_left_to_chance() -> None:
    noise = latent_noise(np.random.default_rng(1), 256, 256)
    waves = Chance(noise).ripples(0.0, 8.0)
    assert np.abs(waves).max() <= 1
    across = np.abs(np.fft.rfft(waves, axis=1)).mean(0)
    assert abs(int(across.argmax()) - 256 // 8) <= 2
    assert np.abs(np.diff(waves, axis=0)).mean() < 0.5 * np.abs(np.diff(waves, axis=1)).mean(), "they run along y"
    other = Chance(latent_noise(np.random.default_rng(2), 256, 256)).ripples(0.0, 8.0)
    assert abs(float((waves * other).mean())) < 0.15
    place = Chance(noise).phase(0.0, 8.0)
    assert place.min() >= 0
    assert place.max() <= 1
    np.testing.assert_allclose(np.cos(2 * np.pi * place), waves, atol=1e-4)
    onwards = np.median(np.diff(place, axis=1) % 1)
    assert onwards == pytest.approx(1 / 8, abs=0.01), "an eighth of its period a pixel"
