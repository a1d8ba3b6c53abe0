"""Scene rules written back into a file that people write in, and the watch over it."""

from __future__ import annotations

import stat
import sys
import threading
from pathlib import Path

import pytest

from streamv2v_obs.errors import ConfigError
from streamv2v_obs.settings import SceneRule
from streamv2v_obs.settings_file import SettingsFile, SettingsWatch

TEXT = """\
# Mine. Do not lose this.
translator:
  prompt: "a garden: at dawn" # the colon needs quotes

obs: # at home
  password: {env: STREAMV2V_TEST_SECRET}
  rules:
    # the game itself
    - scene: "Game*"
      prompt: a comic # bold
      bank: restore
    # talking
    - {scene: Chat, prompt: a watercolor} # soft
    - scene: End
      seed: 3
publish:
  hold_s: 3.0
"""
GAME = SceneRule(scene="Game*", prompt="a comic", bank="restore")
CHAT = SceneRule(scene="Chat", prompt="a watercolor")
END = SceneRule(scene="End", seed=3)


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMV2V_TEST_SECRET", "hunter2")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "config.yaml").write_text(TEXT, encoding="utf-8")
    return tmp_path / "config.yaml"


def test_rules_that_stay_change_not_a_letter(path: Path) -> None:
    SettingsFile(path, ()).write_rules([GAME, CHAT, END])
    assert path.read_text(encoding="utf-8") == TEXT


def test_a_rule_of_another_scene_keeps_its_comments(path: Path) -> None:
    rules = [GAME, CHAT.model_copy(update={"scene": "Just Chatting", "strength": 0.5}), END]
    SettingsFile(path, ()).write_rules(rules)
    edited = "{scene: Just Chatting, prompt: a watercolor, strength: 0.5} # soft"
    assert path.read_text(encoding="utf-8") == TEXT.replace("{scene: Chat, prompt: a watercolor} # soft", edited)


def test_what_wins_over_a_preset_stays_though_it_is_the_default(path: Path) -> None:
    preset = "presets:\n  - {name: Ink, prompt: ink, bank: reset}\n"
    rule = "    - {scene: Chat, preset: Ink, bank: keep} # goes on\n"
    path.write_text(preset + "obs:\n  rules:\n" + rule, encoding="utf-8")
    file = SettingsFile(path, ())
    file.write_rules([*file.load().obs.rules, END])
    assert rule in path.read_text(encoding="utf-8")


def test_a_new_rule_gets_no_comments_of_one_that_was_removed(path: Path) -> None:
    SettingsFile(path, ()).write_rules([GAME, SceneRule(scene="Pause", output="slate"), END])
    text = path.read_text(encoding="utf-8")
    assert "soft" not in text
    assert "# talking" not in text
    assert "# bold" in text


def test_what_is_edited_changes_and_all_comments_stay(path: Path) -> None:
    rules = [SceneRule(scene="Game*", prompt="a fresco"), CHAT, END, SceneRule(scene="New")]
    settings = SettingsFile(path, ()).write_rules(rules)
    assert settings.obs.rules == tuple(rules)
    expected = TEXT.replace("a comic #", "a fresco #").replace("      bank: restore\n", "")
    assert path.read_text(encoding="utf-8") == expected.replace("seed: 3\n", "seed: 3\n    - scene: New\n")


@pytest.mark.parametrize("word", ["Off", "On", "yes", "No", "1:30", "1_000", "~", "2020-01-01", "=", "y", "3"])
@pytest.mark.parametrize("text", ["", "obs: {enabled: true}\n", TEXT])
def test_a_text_that_looks_like_something_else_stays_a_text(path: Path, text: str, word: str) -> None:
    path.write_text(text, encoding="utf-8")
    file = SettingsFile(path, ())
    fresh, edited = SceneRule(scene=word, prompt=word), CHAT.model_copy(update={"prompt": word})
    source = SceneRule.model_validate({"scene": "Cam", "source": {"kind": "obs", "source": word}})
    for rules in ([CHAT, GAME], [edited, fresh, source], [source, fresh, GAME]):
        assert file.write_rules(rules).obs.rules == tuple(rules)


@pytest.mark.parametrize("after", ["", "\n", "    - scene: End\n      seed: 3\n", "# end\npublish:\n  hold_s: 3.0\n"])
def test_a_rule_whose_last_value_is_left_empty_ends_there(path: Path, after: str) -> None:
    """Found by tests.rigs.fuzz: to YAML an empty value stands where the next thing begins, be that the file's end."""
    rule = "obs:\n  rules:\n    - scene: Chat\n      prompt: a watercolor\n      style:"
    path.write_text(f"{rule}\n{after}", encoding="utf-8")
    file = SettingsFile(path, ())
    was = file.load().obs.rules
    assert file.write_rules(was).obs.rules == was
    assert path.read_text(encoding="utf-8") == f"{rule}\n{after}"
    edited = (was[0].model_copy(update={"seed": 4}), *was[1:])
    assert file.write_rules(edited).obs.rules == edited
    assert path.read_text(encoding="utf-8").endswith(after)


def test_removed_and_moved(path: Path) -> None:
    file = SettingsFile(path, ())
    assert file.write_rules([END, GAME]).obs.rules == (END, GAME)
    text = path.read_text(encoding="utf-8")
    assert "Chat" not in text
    end = "    - scene: End\n      seed: 3\n"
    game = TEXT[TEXT.index("    # the game itself") : TEXT.index("    # talking")]
    before, after = TEXT[: TEXT.index("    # the game")], TEXT[TEXT.index("publish:") :]
    assert text == before + end + game + after, "a rule takes the comments above it along; nothing else moves"
    assert "hunter2" not in text
    assert file.write_rules([]).obs.rules == ()
    assert file.write_rules([CHAT]).obs.rules == (CHAT,)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# only a comment\n",
        "obs:\n  enabled: true # yes\n# the end\n",
        "obs: {enabled: true}\n",
        "obs:\n  rules: [] # none yet\nlog: {level: info}\n",
        "obs:\n  rules: [{scene: Old, prompt: x}]\n",
        "obs:\n  rules:\n  - scene: Old\n    prompt: |\n      long\n      text\n\n  # after\nlog: {level: info}",
        "obs:\n  rules:\n  - {scene: Chat,\n     prompt: x} # here\n  # last",
    ],
)
def test_whatever_the_file_looks_like(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    file = SettingsFile(path, ())
    assert file.write_rules([CHAT, GAME]).obs.rules == (CHAT, GAME)
    assert file.write_rules([GAME]).obs.rules == (GAME,)
    assert file.write_rules([]).obs.rules == ()
    assert file.write_rules([END]).obs.rules == (END,)
    for comment in ("only a comment", "yes", "the end", "after"):
        assert (comment in text) == (comment in path.read_text(encoding="utf-8"))


def test_a_file_that_is_not_there_yet_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamv2v_obs.settings_file.default_path", lambda: tmp_path / "new" / "config.yaml")
    monkeypatch.setattr("streamv2v_obs.config.default_path", lambda: tmp_path / "new" / "config.yaml")
    file = SettingsFile(None, ("translator.seed=4",))
    assert file.stamp() is None
    assert file.write_rules([CHAT]).translator.seed == 4
    assert file.load().obs.rules == (CHAT,)
    assert "seed" not in file.path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ([CHAT, CHAT], "obs.rules.1.scene = 'Chat': has a rule already"),
        ([SceneRule(scene="A", style="neon")], "obs.rules.0: style = 'neon': not among model.styles"),
        ([SceneRule(scene="A", strength=0.01)], "distinct timesteps"),
    ],
)
def test_rules_that_are_wrong_leave_the_file_as_it_was(path: Path, rules: list[SceneRule], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        SettingsFile(path, ()).write_rules(rules)
    assert said in str(error.value)
    assert ".yaml." not in str(error.value), "the draft is not named"
    assert path.read_text(encoding="utf-8") == TEXT
    assert [found.name for found in path.parent.iterdir()] == ["config.yaml"]


def test_rules_given_beside_the_file_are_not_hidden(path: Path) -> None:
    with pytest.raises(ConfigError, match="--set"):
        SettingsFile(path, ("obs.rules=[{scene: A}]",)).write_rules([CHAT])


def test_a_file_that_is_broken_meanwhile_is_not_written_over(path: Path) -> None:
    path.write_text("obs: [", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"config\.yaml"):
        SettingsFile(path, ()).write_rules([CHAT])
    path.write_text("obs: 3\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="obs is no section"):
        SettingsFile(path, ()).write_rules([CHAT])
    assert path.read_text(encoding="utf-8") == "obs: 3\n"


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX file modes and links")
def test_mode_and_link_stay(path: Path) -> None:
    path.chmod(0o640)
    link = path.with_name("link.yaml")
    link.symlink_to(path)
    SettingsFile(link, ()).write_rules([END])
    assert link.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert "Game" not in path.read_text(encoding="utf-8")


def test_lines_of_windows_stay_so(path: Path) -> None:
    path.write_bytes(TEXT.replace("\n", "\r\n").encode())
    SettingsFile(path, ()).write_rules([GAME, CHAT])
    data = path.read_bytes()
    assert data.count(b"\n") == data.count(b"\r\n")
    assert b"\r\r" not in data
    assert b"End" not in data


def test_a_change_is_noticed_once_however_it_is_made(path: Path) -> None:
    changed = threading.Semaphore(0)
    watch = SettingsWatch(SettingsFile(path, ()), changed.release)
    watch.start()
    try:
        path.write_text(TEXT + "# more\n", encoding="utf-8")
        assert changed.acquire(timeout=20)
        other = path.with_suffix(".tmp")
        other.write_text(TEXT, encoding="utf-8")
        other.replace(path)
        assert changed.acquire(timeout=20)
        path.unlink()
        assert changed.acquire(timeout=20)
        assert not changed.acquire(timeout=2)
    finally:
        watch.stop()
        watch.join(5)
