"""An OBS script that steers the running streamv2v-obs service by buttons and hotkeys.

OBS calls the functions named ``script_*``, the buttons and the hotkeys on threads that it draws and answers with, so
none of them waits for anything: they leave an order, and one thread of this script's own does all that may take time.
It runs in whatever Python OBS has: standard library only, nothing of streamv2v-obs, and one file, because OBS loads
single files.
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import obspython as obs

APP = "streamv2v-obs"
LOOK_S = 2.0  # between two looks at the service
SOON_S = 0.6  # after an order; the engine tells its state twice a second
PATIENCE_S = 2.0
END_S = 0.5
CONFIRM_S = 5.0
ANSWER_LIMIT = 1 << 20
NOT_RUNNING = f"the service is not running; start it with the button below or with: {APP} start"
_HERE = ("127.0.0.1", "localhost", "::1")


class Trouble(Exception):
    """One line for the user."""


class Absent(Trouble):
    """Nobody answers."""


# --- what the user set -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wishes:
    """The properties of this script, as they were when OBS last told them."""

    address: str = ""
    token: str = field(default="", repr=False)
    prompt: str = ""
    prompts: tuple[str, ...] = ("", "", "")
    preset: str = ""
    bank: str = "keep"
    strength: float = 0.4
    program: str = ""
    config: str = ""
    start_with_obs: bool = False


def read_wishes(settings: Any) -> Wishes:
    """From OBS's settings object."""

    def text(name: str) -> str:
        return str(obs.obs_data_get_string(settings, name) or "").strip()

    return Wishes(
        address=text("address"),
        token=text("token"),
        prompt=text("prompt"),
        prompts=tuple(text(f"prompt_{slot}") for slot in (1, 2, 3)),
        preset=text("preset"),
        bank=text("bank") or "keep",
        strength=round(float(obs.obs_data_get_double(settings, "strength")), 2),
        program=text("program"),
        config=text("config"),
        start_with_obs=bool(obs.obs_data_get_bool(settings, "start_with_obs")),
    )


# --- where the service is --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """A service that may be running there."""

    host: str
    port: int
    token: str = field(repr=False)

    def __str__(self) -> str:
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"


def candidates(environment: Mapping[str, str] = os.environ, platform: str = sys.platform) -> Iterator[Path]:
    """The folders in which the service may have left its endpoint file, in the order in which it tries them."""
    if chosen := environment.get("STREAMV2V_RUNTIME_DIR"):
        yield Path(chosen)
        return
    home = Path(environment.get("HOME") or Path.home())
    if platform == "win32":
        local = Path(environment.get("LOCALAPPDATA") or home / "AppData" / "Local")
        yield local / "Temp" / APP
        yield local / APP / "run"
        yield local / APP / "Cache" / "run"
        return

    def base(variable: str, otherwise: Path) -> Path:
        named = environment.get(variable, "")
        return Path(named) if named.startswith("/") else otherwise

    if platform == "darwin":
        library = home / "Library"
        yield base("XDG_RUNTIME_DIR", library / "Caches" / "TemporaryItems") / APP
        yield base("XDG_STATE_HOME", library / "Application Support") / APP / "run"
        yield base("XDG_CACHE_HOME", library / "Caches") / APP / "run"
        return
    yield base("XDG_RUNTIME_DIR", Path(f"/run/user/{os.getuid() if hasattr(os, 'getuid') else 0}")) / APP
    yield base("XDG_STATE_HOME", home / ".local" / "state") / APP / "run"
    yield base("XDG_CACHE_HOME", home / ".cache") / APP / "run"


def parse_address(address: str, token: str) -> Place:
    """``127.0.0.1:8770`` or ``http://127.0.0.1:8770`` as a place; raises Trouble for anything off this machine."""
    try:
        parts = urlsplit(address if "//" in address else f"//{address}")
        scheme, host, port = parts.scheme or "http", parts.hostname or "", parts.port or 0
    except ValueError:
        scheme, host, port = "", "", 0
    # The service listens on the loopback only, and the token must not travel.
    if scheme != "http" or host not in _HERE or not port:
        raise Trouble(f"address = {address[:100]!r}; allowed: http://127.0.0.1:PORT, or empty to find the service")
    return Place(host, port, token)


def read_endpoint(path: Path) -> Place:
    """What the service wrote about itself; raises OSError, or Trouble if the file cannot be trusted."""
    with path.open(encoding="utf-8") as file:
        found = os.fstat(file.fileno())
        if sys.platform != "win32" and (found.st_uid != os.getuid() or found.st_mode & 0o077):
            raise Trouble(f"{path}: others can read it or own it; remove it and restart the service")
        try:
            said = json.load(file)
            return parse_address(str(said["address"]), str(said["token"]))
        except (ValueError, KeyError, TypeError, Trouble):
            raise Trouble(f"{path}: cannot be understood; remove it and restart the service") from None


def places(wishes: Wishes) -> Iterator[Place]:
    """Where to ask, likeliest first; empty where no service left word of itself. Raises Trouble."""
    wanted = parse_address(wishes.address, wishes.token) if wishes.address else None
    if wanted and wanted.token:
        yield wanted
        return
    met = False
    for folder in candidates():
        try:
            place = read_endpoint(folder / "service.json")
        except FileNotFoundError:
            continue
        except OSError as error:
            raise Trouble(f"{folder / 'service.json'}: cannot be read ({error.strerror})") from error
        if wanted is None or wanted.port == place.port:
            met = True
            host = wanted.host if wanted else place.host
            yield Place(host, place.port, wishes.token or place.token)
    if wanted and not met:
        raise Absent(f"no service has left word that it is at {wanted}; {NOT_RUNNING}")


# --- orders, and the thread that carries them out ----------------------------------------------------------------


@dataclass(frozen=True)
class Order:
    """One thing to do. Of each kind only the newest waits."""

    kind: str
    path: str
    body: Mapping[str, Any] = field(default_factory=dict)
    done: str = ""


START = "start"  # instead of a path
_FIRST = ("panic", "bypass")  # what people may see goes before how it looks


class Worker:
    """Asks the service, on a thread of its own; every method returns at once, on any thread.

    ``say(serious, line)`` writes to the script log; the same line about the same matter comes once.
    """

    def __init__(self, wishes: Wishes, say: Callable[[bool, str], None]) -> None:
        self.wishes = wishes  # replaced whole, never changed
        self.state = "looking for the service"  # the newest of it, replaced whole
        self.presets: tuple[str, ...] = ()  # the service's, in its order; likewise
        self.last = "nothing yet"  # how the last order went
        self._say = say
        self._said: dict[str, str] = {}  # matter -> line; the thread's own
        self._changed = threading.Condition()
        self._waiting: dict[str, Order] = {}  # guarded by _changed
        self._stopping = False  # guarded by _changed
        self._connection: http.client.HTTPConnection | None = None
        self._child: subprocess.Popen[bytes] | None = None  # `start` at work; the thread's own, like what it says
        self._child_said: IO[bytes] | None = None
        self._thread = threading.Thread(target=self._run, name="streamv2v-control", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def post(self, order: Order) -> None:
        """Leave an order; one of its kind that still waits is forgotten."""
        with self._changed:
            self._waiting.pop(order.kind, None)
            self._waiting[order.kind] = order
            self._changed.notify()

    def stop(self) -> None:
        """Ask the thread to end, even in the midst of a request."""
        with self._changed:
            self._stopping = True
            self._waiting.clear()
            self._changed.notify()
        connection = self._connection
        if connection is not None and connection.sock is not None:
            with suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)

    def join(self, timeout_s: float) -> bool:
        """Wait for its end; False if it has not ended by then."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def text(self) -> str:
        """For the status line."""
        # Always two lines: one that came and went would move the buttons under the mouse.
        return f"{self.state}\nLast: {self.last}"

    def _run(self) -> None:
        look_at = 0.0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._stopping, max(0.0, look_at - time.monotonic()))
                if self._stopping:
                    return
                kind = next((k for k in _FIRST if k in self._waiting), next(iter(self._waiting), None))
                order = self._waiting.pop(kind) if kind else None
            now = time.monotonic()
            look_at = now + LOOK_S if order is None else min(look_at, now + SOON_S)
            try:
                if order is not None:
                    self._carry_out(order)
                else:
                    self._look()
            except Exception:
                # Ending here would leave buttons that do nothing, and no word why.
                self._tell("bug", True, f"this is a bug of the script:\n{traceback.format_exc()}")
            if self._child is not None:
                look_at = min(look_at, time.monotonic() + SOON_S)

    def _tell(self, matter: str, serious: bool, line: str, same: str = "") -> None:
        """Log ``line`` unless the last one about this matter was the same, or says the same."""
        if self._said.get(matter) != (same or line) and not self._stopping:
            self._said[matter] = same or line
            self._say(serious, line)

    def _look(self) -> None:
        self._look_after_child()
        try:
            status, place = self._ask("GET", "/v1/status", None)
            if not isinstance(status.get("publish"), dict):
                raise Trouble(f"what answers at {place} is not {APP}")
            listed = self._ask_at(place, "GET", "/v1/presets", None).get("presets") or ()
            self.presets = tuple(str(preset["name"]) for preset in listed)
        except Trouble as trouble:
            absent = isinstance(trouble, Absent)
            self.state = "the service is starting" if absent and self._child is not None else str(trouble)
            self._tell("service", not absent, self.state, "absent" if absent else "")
        else:
            self.state = status_line(status)
            self._tell("service", False, f"the service is at {place}")

    def _carry_out(self, order: Order) -> None:
        try:
            if order.path == START and order.body and self._runs():
                self.last = "the service runs already"
                return
            if order.path == START:
                self._start_service()
            else:
                self._ask("POST", order.path, order.body)
        except Trouble as trouble:
            self.last = f"{order.kind}: {trouble}"
            if isinstance(trouble, Absent):  # one line for all orders that nobody hears
                self._tell("service", False, str(trouble), "absent")
            else:
                self._tell(f"order {order.kind}", True, self.last)
        else:
            self.last = order.done
            self._said.pop(f"order {order.kind}", None)

    def _runs(self) -> bool:
        try:
            self._ask("GET", "/v1/status", None)
        except Absent:
            return False
        return True

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None) -> tuple[dict[str, Any], Place]:
        absent = Absent(NOT_RUNNING)
        for place in places(self.wishes):
            try:
                return self._ask_at(place, method, path, body), place
            except Absent as error:
                absent = error
        raise absent

    def _ask_at(self, place: Place, method: str, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        # http.client, unlike urllib.request, takes no proxy from the environment and follows nobody elsewhere.
        connection = self._connection = http.client.HTTPConnection(place.host, place.port, timeout=PATIENCE_S)
        try:
            headers = {"Authorization": f"Bearer {place.token}", "Content-Type": "application/json"}
            connection.connect()
            if self._stopping:  # ``stop`` may have come before there was anything to shut down
                raise Absent(NOT_RUNNING)
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            data = answer.read(ANSWER_LIMIT)
        except ConnectionRefusedError:
            raise Absent(NOT_RUNNING) from None  # a killed service leaves its file behind
        except (OSError, http.client.HTTPException) as error:
            raise Absent(f"the service at {place} does not answer ({type(error).__name__})") from error
        except ValueError:
            raise Trouble("the token holds characters that no token has") from None
        finally:
            self._connection = None
            connection.close()
        if answer.status == 401:
            raise Trouble("the service refuses the token; leave that field empty, for every start makes a new token")
        try:
            found = json.loads(data)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise Trouble(f"what answers at {place} is not {APP}")
        if not 200 <= answer.status < 300:
            raise Trouble(str(found.get("error", f"the service answered {answer.status}"))[:300])
        return found

    def _start_service(self) -> None:
        if self._child is not None:
            raise Trouble("it is starting already")
        program = self.wishes.program or shutil.which(APP)
        if not program:
            raise Trouble(f"no {APP} is on the PATH; name its file under 'Program that starts the service'")
        command = [program, START, *(["--config", self.wishes.config] if self.wishes.config else [])]
        said = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the child
        try:
            self._child = spawn_detached(command, said)
        except OSError as error:
            said.close()
            raise Trouble(f"{program}: cannot be started ({error.strerror})") from error
        self._child_said = said

    def _look_after_child(self) -> None:
        if self._child is None or self._child_said is None or (code := self._child.poll()) is None:
            return
        with self._child_said as file:
            file.seek(0)
            lines = file.read().decode("utf-8", "replace").split("\n")
        self._child = self._child_said = None
        self.last = "service started"
        if code != 0:
            why = next((line.strip() for line in reversed(lines) if line.strip()), f"it ended with code {code}")
            self.last = f"start: {why.removeprefix('error: ')[:300]}"
            self._tell("start", True, self.last)


def spawn_detached(command: list[str], said: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start it so that it outlives OBS; its errors go to ``said``."""
    # Not its output: that holds a link that opens the panel.
    streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": said}
    if sys.platform == "win32":
        flags = subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP
        return subprocess.Popen(command, creationflags=flags, **streams)
    return subprocess.Popen(command, start_new_session=True, **streams)


def status_line(status: Mapping[str, Any]) -> str:
    """What ``GET /v1/status`` says, in one line."""
    publish, engine = status.get("publish") or {}, status.get("engine") or {}
    parts = [f"on air: {publish.get('state', '?')}"]
    parts += ["PANIC until released"] if publish.get("panic") else []
    parts += ["BYPASS: the raw picture may be shown"] if publish.get("bypass") else []
    if status.get("engine_state") != "running":
        parts.append(f"engine {status.get('engine_state', '?')}")
    if engine:
        parts.append(f"“{engine.get('prompt', '')}”, strength {float(engine.get('strength') or 0):.2f}")
        parts.append(f"{float(engine.get('translate_fps') or 0):.1f} fps")
    parts += [f"preset {status['preset']}"] if status.get("preset") else []
    parts += [str(status["failure"])] if status.get("failure") else []
    return " | ".join(parts)


# --- what OBS calls ----------------------------------------------------------------------------------------------

_worker: Worker | None = None
_hotkeys: dict[str, Any] = {}  # name -> OBS's number
_steps = itertools.count()
_confirm_until = 0.0  # when a second click on the bypass button stops to count


def _post(order: Order) -> None:
    if _worker is not None:
        _worker.post(order)


def _post_prompt(slot: int) -> None:
    """The prompt box (0) or one of the three slots."""
    if _worker is None:
        return
    wishes = _worker.wishes
    prompt = wishes.prompts[slot - 1] if slot else wishes.prompt
    if prompt:
        # Prompt and bank are one change, applied between two frames.
        _post(Order("prompt", "/v1/prompt", {"prompt": prompt, "bank": wishes.bank}, f"prompt “{prompt}”"))
    else:
        _worker.last = f"prompt {slot or ''} is empty; nothing was sent"


def _post_preset(body: Mapping[str, Any], done: str) -> None:
    # Two presses of "next" are two steps, so the newer must not stand for both; no more than ten wait.
    kind = f"preset step {next(_steps) % 10}" if "step" in body else "preset"
    _post(Order(kind, "/v1/preset", body, done))


def _post_chosen_preset() -> None:
    if _worker is None:
        return
    if name := _worker.wishes.preset:
        _post_preset({"name": name}, f"preset {name}")
    else:
        _worker.last = "no preset is chosen; nothing was sent"


PANIC_ON = Order("panic", "/v1/panic", {"on": True}, "panic: the slate is shown until released")
PANIC_OFF = Order("panic", "/v1/panic", {"on": False}, "panic released")
BYPASS_ON = Order("bypass", "/v1/bypass", {"on": True}, "bypass on: the RAW picture is shown")
BYPASS_OFF = Order("bypass", "/v1/bypass", {"on": False}, "bypass off")
BANK_RESET = Order("bank", "/v1/bank", {"policy": "reset"}, "bank emptied")
BANK_RESTORE = Order("bank", "/v1/bank", {"policy": "restore"}, "bank of this scene brought back")
SERVICE_START = Order("service", START, {}, "starting the service")
SERVICE_START_WITH_OBS = Order("service", START, {"unless": "it runs"}, "starting the service with OBS")
SERVICE_STOP = Order("service", "/v1/stop", {}, "service told to stop")

# No hotkey switches bypass on: what shows the raw picture must not be a slip of a finger.
HOTKEYS: dict[str, tuple[str, Callable[[], None]]] = {
    "streamv2v_prompt_1": ("streamv2v: apply prompt 1", lambda: _post_prompt(1)),
    "streamv2v_prompt_2": ("streamv2v: apply prompt 2", lambda: _post_prompt(2)),
    "streamv2v_prompt_3": ("streamv2v: apply prompt 3", lambda: _post_prompt(3)),
    **{
        f"streamv2v_preset_{number}": (
            f"streamv2v: preset {number}",
            partial(_post_preset, {"number": number}, f"preset {number}"),
        )
        for number in range(1, 10)
    },
    "streamv2v_preset_next": ("streamv2v: next preset", lambda: _post_preset({"step": 1}, "next preset")),
    "streamv2v_preset_previous": ("streamv2v: previous preset", lambda: _post_preset({"step": -1}, "previous preset")),
    "streamv2v_panic": ("streamv2v: panic (show the slate)", lambda: _post(PANIC_ON)),
    "streamv2v_panic_off": ("streamv2v: release panic", lambda: _post(PANIC_OFF)),
    "streamv2v_bypass_off": ("streamv2v: bypass off", lambda: _post(BYPASS_OFF)),
    "streamv2v_bank_reset": ("streamv2v: empty the bank", lambda: _post(BANK_RESET)),
}

_BYPASS_ASK = "RAW picture (bypass)..."
_BYPASS_SURE = "RAW picture: click again"


def script_description() -> str:
    """Shown above the properties."""
    return (
        "<b>streamv2v-obs</b>: steer the service that redraws your picture from a prompt.<br>"
        "Prompt, strength, bank, panic and bypass as buttons here, and as hotkeys under Settings &gt; Hotkeys "
        "(search for “streamv2v”).<br>It finds a service of the same user by itself; leave address and token empty."
    )


def script_defaults(settings: Any) -> None:
    """Called before anything else."""
    obs.obs_data_set_default_double(settings, "strength", Wishes.strength)
    obs.obs_data_set_default_string(settings, "bank", Wishes.bank)


def script_load(settings: Any) -> None:
    """Register the hotkeys with their saved keys and start the thread."""
    global _worker
    for name, (description, act) in HOTKEYS.items():
        _hotkeys[name] = obs.obs_hotkey_register_frontend(name, description, _on_press(act))
        saved = obs.obs_data_get_array(settings, name)
        obs.obs_hotkey_load(_hotkeys[name], saved)
        obs.obs_data_array_release(saved)
    _worker = Worker(read_wishes(settings), _log)
    _worker.start()
    if _worker.wishes.start_with_obs:
        _post(SERVICE_START_WITH_OBS)


def script_save(settings: Any) -> None:
    """Keep the keys of the hotkeys; OBS keeps the properties by itself."""
    for name, number in _hotkeys.items():
        keys = obs.obs_hotkey_save(number)
        obs.obs_data_set_array(settings, name, keys)
        obs.obs_data_array_release(keys)


def script_update(settings: Any) -> None:
    """A property was changed; only the slider acts at once. OBS also calls this once after it loads the script."""
    if _worker is None:
        return
    before, _worker.wishes = _worker.wishes, read_wishes(settings)
    strength = _worker.wishes.strength
    if strength != before.strength:
        _post(Order("strength", "/v1/prompt", {"strength": strength}, f"strength {strength:.2f}"))


def script_unload() -> None:
    """Stop the thread; it is not waited for any longer than OBS's window may stand still."""
    global _worker
    worker, _worker = _worker, None
    _hotkeys.clear()
    if worker is not None:
        worker.stop()
        worker.join(END_S)


def script_properties() -> Any:
    """The form under Tools > Scripts."""
    global _confirm_until
    _confirm_until = 0.0
    form = obs.obs_properties_create()
    # A setting of this name does not exist, so OBS shows the description as the text.
    obs.obs_properties_add_text(form, "status", _worker.text() if _worker else "", obs.OBS_TEXT_INFO)
    _button(form, "refresh", "Refresh", lambda: None)

    obs.obs_properties_add_list(form, "preset", "Preset", obs.OBS_COMBO_TYPE_LIST, obs.OBS_COMBO_FORMAT_STRING)
    _list_presets(form)
    _button(form, "preset_apply", "Apply preset", _post_chosen_preset)
    _button(form, "preset_previous", "Previous preset", HOTKEYS["streamv2v_preset_previous"][1])
    _button(form, "preset_next", "Next preset", HOTKEYS["streamv2v_preset_next"][1])

    obs.obs_properties_add_text(form, "prompt", "Prompt", obs.OBS_TEXT_DEFAULT)
    _button(form, "apply", "Apply prompt", lambda: _post_prompt(0))
    bank = obs.obs_properties_add_list(
        form, "bank", "Bank, with a prompt", obs.OBS_COMBO_TYPE_LIST, obs.OBS_COMBO_FORMAT_STRING
    )
    for label, policy in (("kept", "keep"), ("emptied", "reset"), ("faded out", "fade"), ("brought back", "restore")):
        obs.obs_property_list_add_string(bank, label, policy)
    obs.obs_properties_add_float_slider(form, "strength", "Strength", 0.02, 1.0, 0.01)
    for slot in (1, 2, 3):
        obs.obs_properties_add_text(form, f"prompt_{slot}", f"Prompt {slot}", obs.OBS_TEXT_DEFAULT)
    _button(form, "bank_reset", "Empty the bank", lambda: _post(BANK_RESET))
    _button(form, "bank_restore", "Bring the bank back", lambda: _post(BANK_RESTORE))

    _button(form, "panic_on", "PANIC: slate now", lambda: _post(PANIC_ON))
    _button(form, "panic_off", "Release panic", lambda: _post(PANIC_OFF))
    obs.obs_properties_add_button(form, "bypass_on", _BYPASS_ASK, _bypass_clicked)
    _button(form, "bypass_off", "Bypass off", lambda: _post(BYPASS_OFF))

    _button(form, "start", "Start service", lambda: _post(SERVICE_START))
    _button(form, "stop", "Stop service", lambda: _post(SERVICE_STOP))
    with_obs = obs.obs_properties_add_bool(form, "start_with_obs", "Start it when OBS loads this script")
    _explain(with_obs, "Unless one runs already. That it ends with OBS is a setting of its own: obs.stop_with_obs.")
    path = (obs.OBS_PATH_FILE, "", "")
    program = obs.obs_properties_add_path(form, "program", "Program", *path)
    _explain(program, f"What 'Start service' starts. Empty: {APP}, if it is on the PATH that OBS got.")
    _explain(obs.obs_properties_add_path(form, "config", "Settings file", *path), "Empty: the program's own default.")
    address = obs.obs_properties_add_text(form, "address", "Address", obs.OBS_TEXT_DEFAULT)
    _explain(address, "Empty: found by the file that the service leaves for this user.")
    token = obs.obs_properties_add_text(form, "token", "Token", obs.OBS_TEXT_PASSWORD)
    _explain(token, "Empty: found likewise. OBS keeps what you type here readable in its scene collection.")
    return form


def _explain(shown: Any, text: str) -> None:
    obs.obs_property_set_long_description(shown, text)


def _button(form: Any, name: str, text: str, act: Callable[[], None]) -> None:
    def clicked(form: Any, button: Any) -> bool:
        act()
        return _show_status(form)

    # OBS takes plain functions only; a functools.partial it forgets without a word.
    obs.obs_properties_add_button(form, name, text, clicked)


def _bypass_clicked(form: Any, button: Any) -> bool:
    global _confirm_until
    now = time.monotonic()
    sure = now < _confirm_until
    _confirm_until = 0.0 if sure else now + CONFIRM_S
    obs.obs_property_set_description(button, _BYPASS_ASK if sure else _BYPASS_SURE)
    if sure:
        _post(BYPASS_ON)
    return _show_status(form)


def _show_status(form: Any) -> bool:
    """Put the newest status into the form; True makes OBS draw it again, which no other thread can ask for."""
    if _worker is not None:
        obs.obs_property_set_description(obs.obs_properties_get(form, "status"), _worker.text())
        _list_presets(form)
    return True


def _list_presets(form: Any) -> None:
    if _worker is None:
        return
    shown = obs.obs_properties_get(form, "preset")
    obs.obs_property_list_clear(shown)
    # The chosen one stays in the list while the service is away: OBS would choose another one in its place.
    chosen = _worker.wishes.preset
    for name in ("", *_worker.presets, *([chosen] if chosen and chosen not in _worker.presets else [])):
        obs.obs_property_list_add_string(shown, name or "(none chosen)", name)


def _on_press(act: Callable[[], None]) -> Callable[[bool], None]:
    def pressed_or_released(pressed: bool) -> None:
        if pressed:
            act()

    return pressed_or_released


def _log(serious: bool, line: str) -> None:
    obs.script_log(obs.LOG_WARNING if serious else obs.LOG_INFO, f"streamv2v: {line}")
