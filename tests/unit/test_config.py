"""Every mistake in a configuration is one line that names file, line, key, value and what is allowed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from streamv2v_obs.config import load_settings, show
from streamv2v_obs.errors import ConfigError
from streamv2v_obs.settings import AutoCapture, Settings, VideoCapture, lcm_indices

CONFIGS = Path(__file__).parents[2] / "configs"


# Ten names of ten of the one before.
LAUGHS = "\n".join(
    ["a0: &a0 [x]", *(f"a{n}: &a{n} [{', '.join(10 * [f'*a{n - 1}'])}]" for n in range(1, 10)), "translator: *a9\n"]
)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("capture:\n  kind: screen\n  regio: [1, 2]\n", (":3:", "unknown key capture.regio", "allowed:", "region")),
        ("obs:\n  rules:\n  - scene: A\n    bank: rest\n", (":4:", "obs.rules.0.bank = 'rest'", "'restore'")),
        ("publish:\n  fps: fast\n", (":2:", "publish.fps = 'fast'", "number")),
        ("translator: {strength: 0.02, steps: 4}\n", (":1:", "translator", "distinct timesteps", "allowed")),
        ("translator:\n  steps: 9\n", (":2:", "translator.steps = 9", "less than or equal to 8")),
        ("capture: {kind: moon}\n", (":1:", "capture.kind = 'moon'", "allowed: auto, screen")),
        ("a: [1\nb: 2", (":2:", "not valid YAML")),
        ("log: {level: info}\nlog: {level: debug}\n", (":2:", "'log' is given twice")),
        ("hello", ("'hello'", "sections such as capture")),
        ("publish: {width: 640}\n", ("width and height belong together",)),
        ("publish: {outputs: [recording]}\n", ("recording.path is needed",)),
        ("obs: {password: {env: STREAMV2V_NOT_SET}}\n", ("obs.password", "STREAMV2V_NOT_SET is not set")),
        ("obs: {password: {file: /nowhere/secret}}\n", ("obs.password", "/nowhere/secret")),
        ("obs: {rules: [{scene: A, style: neon}]}\n", ("obs.rules.0: style = 'neon'", "allowed: '' for none")),
        ("presets: [{name: A}]\n", (":1:", "presets.0.prompt is missing")),
        ("presets: [{name: A, prompt: a}, {name: A, prompt: b}]\n", ("presets.1.name 'A' is given twice",)),
        ("presets:\n- {name: '7', prompt: a}\n", (":2:", "presets.0.name: '7' may not be", "by number")),
        ("presets: [{name: A, prompt: a, style: neon}]\n", ("presets.0: style = 'neon'", "allowed: '' for none")),
        (
            "presets: [{name: A, prompt: a, bank: restore}]\n",
            ("presets.0.bank = 'restore'", "'keep', 'reset' or 'fade'"),
        ),
        ("obs: {rules: [{scene: A, preset: B}]}\n", ("obs.rules.0.preset 'B' is not among presets: none",)),
        ("obs: {rules: [{scene: A, bypass: true}]}\n", ("unknown key obs.rules.0.bypass", "output")),
        ("obs: {rules: [{scene: A, output: raw}]}\n", ("obs.rules.0.output = 'raw'", "'slate'")),
        ('capture: {kind: pattern, "a\\nb": 1}\n', ("unknown key 'capture.a\\nb'", "allowed: fps")),
        ("obs: {default: {scene: A}}\n", ("unknown key obs.default.scene", "allowed: preset, prompt")),
        ("obs: {default: {preset: B}}\n", ("obs.default.preset 'B' is not among presets: none",)),
        (
            "obs: {rules: [{scene: A, steps: 8}, {scene: B, strength: 0.1}]}\n",
            ("obs.rules.0: strength 0.1 with 8 steps", "strength >= 0.16"),
        ),
        ("obs: {default: {steps: 8}}\ntranslator: {strength: 0.1}\n", ("obs.default: strength 0.1 with 8 steps",)),
        ("obs: {rules: [{scene: A, blend_s: 61}]}\n", ("obs.rules.0.blend_s = 61", "less than or equal to 60")),
        ("obs: {prompt_text: T, status_text: T}\n", ("both 'T'", "two text sources")),
        ("obs: {audio_sync: {extra_ms: 5}}\n", ("obs.audio_sync.input is missing",)),
        ("log: \x07\n", ("not valid YAML",)),
        ("model: {width: 500}\n", (":1:", "model.width = 500", "multiple of 8")),
        ("control: {host: 0.0.0.0}\n", ("control: host = '0.0.0.0'", "127.0.0.1", "lan: true")),
        ("control: {host: example.org, lan: true}\n", ("control.host", "localhost or an address in digits")),
        ("translator: {prompt: 2024-99-99}\n", ("not valid YAML", "month")),
        ("translator: {seed: on}\n", (":1:", "translator.seed = True", "valid integer")),
        ("publish: {hold_s: yes}\n", ("publish.hold_s = True", "valid number")),
        ("obs: {rules: [{scene: A, seed: false}]}\n", ("obs.rules.0.seed = False", "valid integer")),
        ("[" * 3000, ("not valid YAML", "nested 50 deep")),
        # Found by tests.fuzz: without end where somebody walks or prints all of it.
        (LAUGHS, ("not valid YAML", "100000 values or more")),
        ("translator: &a {prompt: *a}\n", ("not valid YAML", "100000 values or more")),
        ("obs: {required: true}\n", ("obs.required is true, so obs.enabled has to be true",)),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, parts: tuple[str, ...]) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_settings(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("translator.steps=nine", "--set: translator.steps = 'nine'"),
        ("foo=1", "--set: unknown key foo; allowed: capture"),
        ("foo", "--set foo: allowed is section.key=value"),
        ("capture.kind=video", "capture.path is missing"),
    ],
)
def test_a_wrong_override_is_named(override: str, part: str) -> None:
    with pytest.raises(ConfigError, match="set") as caught:
        load_settings(None, [override])
    assert part in str(caught.value)


def test_missing_and_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nope\.yaml: no such configuration file"):
        load_settings(tmp_path / "nope.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_settings(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"log: \xff\n")
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        load_settings(tmp_path / "latin.yaml")
    (tmp_path / "bare.yaml").write_text("capture: {fps: 5}\n")
    with pytest.raises(ConfigError, match=r"capture\.kind is missing; allowed: auto, screen"):
        load_settings(tmp_path / "bare.yaml")


def test_overrides_win_and_another_kind_of_source_starts_afresh(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    # Written as Windows editors do: with a mark in front and two characters at the end of each line.
    path.write_bytes(
        b"\xef\xbb\xbfcapture: {kind: screen, region: [0, 0, 64, 64], fps: 15}\r\nlog: {level: error}\r\n"
    )
    settings = load_settings(path, ["capture.kind=video", "capture.path=C:\\clips\\a.mp4", "translator.prompt=a: b"])
    assert isinstance(settings.capture, VideoCapture)
    assert (str(settings.capture.path), settings.capture.fps) == ("C:\\clips\\a.mp4", 15)
    assert (settings.log.level, settings.translator.prompt) == ("error", "a: b")


@pytest.mark.parametrize(
    "prompt", ["1984", "yes", "", "null", "2024-01-01", "2024-99-99", "1:30", "a cat #1", "#1 cat", "[x]", "a: b"]
)
def test_a_text_given_on_the_command_line_is_that_text(prompt: str) -> None:
    assert load_settings(None, [f"translator.prompt={prompt}"]).translator.prompt == prompt
    assert load_settings(None, [f"translator.prompt={prompt!r}"]).translator.prompt == prompt, "quoted"


def test_a_password_of_digits_keeps_its_zeros() -> None:
    assert load_settings(None, ["obs.password=0123"]).obs.password.get_secret_value() == "0123"


def test_the_order_of_overrides_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("capture: {kind: pattern, width: 640}\n", encoding="utf-8")
    captured = load_settings(path, ["capture.path=a.mp4", "capture.kind=video"]).capture
    assert captured == VideoCapture(kind="video", path=Path("a.mp4"))
    assert load_settings(None, ["capture.fps=5"]).capture == AutoCapture(fps=5)


def test_rules_may_share_what_they_have_in_common(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "obs:\n  rules:\n  - &look {scene: A, prompt: ink, style: ''}\n"
        "  - &more {<<: *look, scene: B}\n  - {<<: *more, scene: C}\n",
        encoding="utf-8",
    )
    rules = load_settings(path).obs.rules
    assert [(rule.scene, rule.prompt, rule.style) for rule in rules] == [
        ("A", "ink", ""),
        ("B", "ink", ""),
        ("C", "ink", ""),
    ]


def test_off_is_off_although_yaml_reads_it_as_false(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("translator: {bank: {kind: off}}\n", encoding="utf-8")
    assert load_settings(path).translator.bank.kind == "off"
    assert load_settings(None, ["translator.bank.kind=off"]).translator.bank.kind == "off"


def test_secrets_come_from_where_they_are_kept_and_are_never_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_text("from-file\n", encoding="utf-8")
    monkeypatch.setenv("STREAMV2V_TEST_PASSWORD", "from-env")
    for override, value in (
        (f"obs.password={{file: '{tmp_path / 'secret'}'}}", "from-file"),
        ("obs.password={env: STREAMV2V_TEST_PASSWORD}", "from-env"),
        ("obs.password=plain", "plain"),
    ):
        settings = load_settings(None, [override])
        assert settings.obs.password.get_secret_value() == value
        assert value not in show(settings)
        assert value not in repr(settings)


def test_what_is_shown_can_be_loaded_again(tmp_path: Path) -> None:
    path = tmp_path / "shown.yaml"
    path.write_text(show(Settings()), encoding="utf-8")
    assert load_settings(path) == Settings()


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda p: p.stem)
def test_each_shipped_configuration_loads_and_explains_itself(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OBS_PASSWORD", "planted")
    load_settings(path)
    assert sum(line.lstrip().startswith("#") for line in path.read_text(encoding="utf-8").splitlines()) >= 3


def test_the_shipped_set_is_whole() -> None:
    assert {"default", "webcam", "game", "low_vram", "quality"} <= {path.stem for path in CONFIGS.glob("*.yaml")}


def test_default_yaml_spells_out_every_default() -> None:
    path = CONFIGS / "default.yaml"
    assert load_settings(path) == Settings()
    written = yaml.safe_load(path.read_text(encoding="utf-8"))
    for name, section in Settings().model_dump(mode="json").items():
        assert set(written[name]) == set(section), name


@given(st.floats(0.001, 1), st.integers(1, 8))
def test_accepted_steps_stand_at_distinct_timesteps(strength: float, steps: int) -> None:
    try:
        load_settings(None, [f"translator.strength={strength}", f"translator.steps={steps}"])
    except ConfigError:
        return
    indices = lcm_indices(strength, steps)
    assert len(set(indices)) == steps
    assert all(0 <= index <= 49 for index in indices)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"panic": "p"}, "whoever types would press it"),
        ({"panic": "shift+p"}, "whoever types would press it"),
        ({"panic": "ctrl+strg+p"}, "allowed are ctrl, alt, shift, cmd"),
        ({"panic": "ctrl+"}, "allowed are ctrl, alt, shift, cmd"),
        ({"panic": "ctrl+ctrl+p"}, "allowed are ctrl, alt, shift, cmd"),
        ({"panic": "ctrl+alt"}, "allowed are ctrl, alt, shift, cmd"),
        ({"bypass": "f9"}, "bypass off"),
        ({"panic": "ctrl+p", "next": "ctrl+alt+p"}, "ctrl+alt+p (next) would be ctrl+p (panic), too"),
        ({"panic": "alt+ctrl+p", "next": "Ctrl+Alt+P"}, "too; allowed: others"),
    ],
)
def test_a_hotkey_that_is_none_or_means_two_things(keys: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(None, [f"control.hotkeys={json.dumps(keys)}"])
    assert "control" in str(caught.value)
    assert said in str(caught.value)


def test_hotkeys_are_spelt_in_one_way() -> None:
    found = load_settings(None, ['control.hotkeys={panic: " Alt + CTRL+P", "preset 9": F9}']).control.hotkeys
    assert found == {"panic": "ctrl+alt+p", "preset 9": "f9"}


def test_the_papers_default_steps() -> None:
    assert lcm_indices(0.4, 4) == (30, 35, 40, 45)
    assert lcm_indices(0.4, 2) == (30, 40)
