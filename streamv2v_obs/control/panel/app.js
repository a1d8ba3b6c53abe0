// The panel: shows what the service tells of itself, and sends what people do. It holds no state of the service's.
import { callPreset, refreshPresets, remember, showHistory, showPreset } from "./looks.js";
import { Plot, pointOf } from "./plots.js";
import { refreshRules, showRuleInForce } from "./rules.js";
import { $, follow, get, send, Stream, toast } from "./talk.js";

const SLOWLY_MS = 3000;
const MOST_POINTS = 600;
const MOST_LINES = 300;
const MEANING = {
  TRANSLATED: "the translated picture is on air",
  HOLD: "nothing fresh: the last picture is held",
  SLATE: "the slate is on air",
  BYPASS: "the captured picture itself is on air",
  OFFLINE: "the service does not answer",
  LOCKED: "this browser has no access",
};

const body = document.body;
let status = null;
let edited = new Set();
let watching = false;
let watchingTold = false; // the status has said so since it was asked for
let points = null;
let newestLine = 0;

const output = new Stream($("output"), "/v1/stream?", (there) => { $("empty").hidden = there; });
const input = new Stream($("input"), "/v1/stream?view=input&", (there) => { $("no-input").hidden = there; });
const plots = [
  new Plot($("plot-fps"), [
    { key: "publish_fps", name: "shown", className: "one" },
    { key: "translate_fps", name: "translated", className: "two" },
  ], "", 1),
  new Plot($("plot-latency"), [
    { key: "age_ms_p50", name: "median", className: "one" },
    { key: "age_ms_p95", name: "95 %", className: "two" },
  ], " ms", 0),
];

// --- showing ------------------------------------------------------------------------------------------------

function show(found) {
  const wasAway = status === null;
  status = found;
  const { publish, engine, obs } = found;
  if (wasAway) {
    refreshHistory();
    refreshSlowly();
  }
  if (!output.wanted && !document.hidden) output.begin();
  setState(publish.state, publish.panic ? "panic: the slate is on air until released" : MEANING[publish.state]);
  banner(found.failure);
  setBusy(false);

  $("panic").setAttribute("aria-pressed", publish.panic);
  $("panic").textContent = publish.panic ? "Release panic" : "Panic";
  const bypass = publish.bypass;
  $("bypass").setAttribute("aria-pressed", bypass);
  $("bypass").textContent = bypass ? "Turn bypass off" : "Turn bypass on\u2026";

  $("headline").textContent = [
    `${publish.fps.toFixed(1)} fps`,
    publish.content_age_ms_p50 === null ? "" : `${Math.round(publish.content_age_ms_p50)} ms behind`,
  ].filter(Boolean).join(" \u00b7 ");

  // It was switched off elsewhere, or by the service since nobody looked. A status on its way may be older than the click.
  if (found.watches_input) watchingTold = true;
  else if (watching && watchingTold) hideInput();

  if (engine) showEngine(engine);
  showPreset(found.preset);
  showObs(obs);
  showLines(found, publish, engine, obs);
  addPoint(found);
}

function showEngine(engine) {
  if (engine.state === "opening" || engine.state === "loading") return;
  fill("prompt", engine.prompt);
  fill("strength", engine.strength);
  fill("seed", engine.seed);
  fill("style", engine.style ?? "");
  $("strength-value").textContent = Number($("strength").value).toFixed(2);
  const stored = engine.scenes_stored;
  const kind = engine.bank === "off" ? "off" : `${engine.bank}, ${engine.bank_filled ? "filled" : "empty"}`;
  $("bank-state").textContent = `${kind}; scenes kept: ${stored.join(", ") || "none"}`;
  $("restore").disabled = !stored.includes(engine.scene);
  $("restore").title = engine.scene ? `Scene ${engine.scene}` : "No scene of OBS is known";
}

function showObs(obs) {
  $("obs").dataset.obs = obs.state;
  const rule = obs.rule ? `rule ${obs.rule}` : "no rule";
  $("obs-text").textContent = obs.scene && obs.state === "connected" ? `OBS: ${obs.scene}, ${rule}` : `OBS: ${obs.state}`;
  $("obs").title = obs.detail;
  showRuleInForce(obs.rule);
}

function showLines(found, publish, engine, obs) {
  const lines = [["Engine", engineText(found), found.engine_state === "waiting"]];
  if (engine) {
    lines.push(["Source", `${engine.source || "opening"}, ${engine.capture_fps.toFixed(1)} fps`]);
    if (engine.model) {
      const steps = engine.steps === 1 ? "1 step" : `${engine.steps} steps`;
      lines.push(["Model", `${engine.model} on ${engine.device}, ${engine.width}\u00d7${engine.height}, ${steps}`]);
      lines.push(["Speed", spread(engine.translate_ms_p50, engine.translate_ms_p95)]);
    }
    if (engine.note) lines.push(["Note", engine.note, true]);
  }
  lines.push(["Latency", spread(publish.content_age_ms_p50, publish.content_age_ms_p95)]);
  for (const one of publish.outputs) lines.push([one.kind, one.detail, !one.ok]);
  lines.push(["OBS", [obs.state, obs.scene && `scene ${obs.scene}`, obs.detail].filter(Boolean).join(", "), obs.state === "refused"]);
  if (obs.note) lines.push(["Note", obs.note, true]);
  for (const notice of found.notices) lines.push(["Notice", notice, notice.includes("not reloaded"), true]);
  $("lines").replaceChildren(...lines.flatMap(([name, text, bad, warn]) => {
    const term = document.createElement("dt");
    const value = document.createElement("dd");
    term.textContent = name;
    value.textContent = text;
    value.className = bad ? "bad" : warn ? "warn" : "";
    return [term, value];
  }));
}

function engineText(found) {
  const restarts = found.engine_restarts ? `, restarted ${found.engine_restarts}\u00d7` : "";
  const doing = found.engine && found.engine_state !== "waiting" ? found.engine.state : found.engine_state;
  return doing + restarts;
}

function spread(middle, high) {
  return middle === null ? "not measured yet" : `${Math.round(middle)} ms, 95% within ${Math.round(high)} ms`;
}

function showAway(locked) {
  status = null;
  setState(locked ? "LOCKED" : "OFFLINE", MEANING[locked ? "LOCKED" : "OFFLINE"]);
  banner(locked ? "Open the panel with a fresh link; this prints one: streamv2v-obs open" : "");
  output.end();
  if (watching) hideInput();
  $("headline").textContent = "";
  $("lines").replaceChildren();
  $("obs").dataset.obs = "off";
  $("obs-text").textContent = "OBS: not known";
  setBusy(true);
}

function setState(state, meaning) {
  if (body.dataset.state !== state) body.dataset.state = state;
  // Only what has changed: each write here is read out aloud by a screen reader.
  if ($("state").textContent !== state) $("state").textContent = state;
  if ($("meaning").textContent !== meaning) $("meaning").textContent = meaning;
  document.title = `${state} \u2013 streamv2v-obs`;
}

function setBusy(away) {
  for (const id of ["panic", "bypass", "apply", "show-input"]) $(id).disabled = away;
  for (const button of document.querySelectorAll("[data-bank=reset], #presets button")) button.disabled = away;
  if (away) $("restore").disabled = true;
}

function banner(text) {
  $("banner").hidden = !text;
  if ($("banner").textContent !== text) $("banner").textContent = text;
}

// What somebody is about to send is not overwritten by what is in force.
function fill(id, value) {
  if (!edited.has(id) && $(id).value !== String(value)) $(id).value = value;
}

// --- what changes slowly ------------------------------------------------------------------------------------

async function refreshSlowly() {
  if (!status || document.hidden) return;
  refreshRules((await refreshPresets()) ?? undefined);
  const choices = await get("/v1/choices");
  if (choices) showChoices(choices);
  refreshLog();
}

function showChoices({ models, model, styles, steps }) {
  options("style", [["", "none"], ...styles.map((style) => [style, style])], status?.engine?.style ?? "");
  $("style").disabled = !styles.length;
  options("model", models.map((name) => [name, name.split(/[\\/]/).at(-1)]), model);
  options("steps", [1, 2, 3, 4, 5, 6, 7, 8].map((count) => [String(count), String(count)]), String(steps));
}

function options(id, wanted, value) {
  const select = $(id);
  const text = JSON.stringify(wanted);
  if (select.dataset.options !== text) {
    const before = select.value;
    select.replaceChildren(...wanted.map(([one, name]) => new Option(name, one)));
    select.dataset.options = text;
    if (edited.has(id)) select.value = before;
  }
  fill(id, value);
}

async function refreshLog() {
  const found = await get(`/v1/log?after=${newestLine}`);
  if (!found?.lines.length) return;
  const log = $("log");
  const atEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 8;
  newestLine = found.lines.at(-1).number;
  log.append(...found.lines.map(({ at, level, text }) => {
    const line = document.createElement("p");
    line.className = level.toLowerCase();
    line.textContent = `${at} ${text}`;
    return line;
  }));
  while (log.childElementCount > MOST_LINES) log.firstElementChild.remove();
  if (atEnd) log.scrollTop = log.scrollHeight;
}

async function refreshHistory() {
  newestLine = 0; // it may be another service
  $("log").replaceChildren();
  points = null;
  points = (await get("/v1/history"))?.points ?? [];
}

function addPoint(found) {
  if (!points) return;
  const point = pointOf(found);
  // A point a second, as the service's own history has; the newest one moves on until the next is due.
  while (points.length && point.uptime_s - points.at(-1).uptime_s < 0) points.pop();
  if (points.length > 1 && point.uptime_s - points.at(-2).uptime_s < 1) points.pop();
  points.push(point);
  points.splice(0, points.length - MOST_POINTS);
  for (const plot of plots) plot.draw(points);
}

// --- doing --------------------------------------------------------------------------------------------------

async function watchInput(on) {
  if (!on) hideInput();
  watchingTold = false;
  if (!(await send("/v1/input", { on })) || !on) return;
  watching = true;
  $("show-input").setAttribute("aria-expanded", "true");
  $("show-input").textContent = "Hide input";
  $("input-figure").classList.remove("quiet");
  input.begin();
}

function hideInput() {
  watching = false;
  $("show-input").setAttribute("aria-expanded", "false");
  $("show-input").textContent = "Show input";
  $("input-figure").classList.add("quiet");
  input.end();
}

for (const id of ["prompt", "strength", "seed", "style", "model", "steps"]) {
  $(id).addEventListener("input", () => edited.add(id));
}
$("strength").addEventListener("input", () => {
  $("strength-value").textContent = Number($("strength").value).toFixed(2);
});
$("dice").addEventListener("click", () => {
  $("seed").value = Math.floor(Math.random() * 100000);
  $("seed").dispatchEvent(new Event("input"));
});

$("prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    $("change").requestSubmit();
  }
});

$("change").addEventListener("submit", async (event) => {
  event.preventDefault();
  const change = {};
  for (const id of ["prompt", "strength", "seed", "style"]) {
    if (edited.has(id)) change[id] = id === "prompt" || id === "style" ? $(id).value : Number($(id).value);
  }
  if ($("fresh").checked) change.bank = "reset";
  if (change.prompt !== undefined && $("blend").value > 0) change.blend_s = Number($("blend").value);
  if (!Object.keys(change).length) {
    toast("Nothing has changed");
    return;
  }
  if (await send("/v1/prompt", change)) {
    if (change.prompt) remember(change.prompt);
    settle(Object.keys(change));
    $("fresh").checked = false;
    toast("Applied from the next frame on");
  }
});

// The engine tells what it applied half a second later; until then the old values would flash up.
function settle(ids) {
  setTimeout(() => { for (const id of ids) edited.delete(id); }, 1500);
}

$("engine-form").addEventListener("input", () => { $("apply-engine").disabled = false; });
$("engine-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const change = {};
  if (edited.has("model")) change.model = $("model").value;
  if (edited.has("steps")) change.steps = Number($("steps").value);
  const said = await send("/v1/engine", change);
  if (!said) return;
  $("apply-engine").disabled = true;
  settle(["model", "steps"]);
  toast(said.restarts_engine ? "The engine starts anew" : "Applied");
});

for (const button of document.querySelectorAll("[data-bank]")) {
  button.addEventListener("click", async () => {
    if (await send("/v1/bank", { policy: button.dataset.bank })) toast(`Bank: ${button.dataset.bank}`);
  });
}

function panic() {
  send("/v1/panic", { on: !status?.publish.panic });
}
$("panic").addEventListener("click", panic);

$("bypass").addEventListener("click", () => {
  if (status?.publish.bypass) send("/v1/bypass", { on: false });
  else $("confirm").showModal();
});
$("confirm").addEventListener("close", () => {
  if ($("confirm").returnValue === "yes") send("/v1/bypass", { on: true });
  $("confirm").returnValue = "";
});

$("show-input").addEventListener("click", () => watchInput(!watching));

$("blend").value = localStorage.getItem("streamv2v-blend") ?? "0";
$("blend").addEventListener("change", () => localStorage.setItem("streamv2v-blend", $("blend").value));
$("keys").checked = localStorage.getItem("streamv2v-keys") !== "off";
$("keys").addEventListener("change", () => localStorage.setItem("streamv2v-keys", $("keys").checked ? "on" : "off"));
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input:not([type=checkbox]), textarea, select, dialog");
  if (typing || event.ctrlKey || event.altKey || event.metaKey || event.repeat || !$("keys").checked) return;
  if (event.key >= "1" && event.key <= "9") callPreset(Number(event.key));
  else if (event.key === "p") panic();
  else if (event.key === "/") {
    event.preventDefault();
    $("prompt").focus();
  }
});

document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    output.end();
    if (watching) input.end();
  } else {
    if (watching) input.begin();
    watchingTold = true;
    refreshHistory();
  }
});
addEventListener("pagehide", () => {
  if (watching) {
    const content = { method: "POST", headers: { "content-type": "application/json" }, body: '{"on": false}' };
    fetch("/v1/input", { ...content, keepalive: true });
  }
});

showHistory();
setInterval(refreshSlowly, SLOWLY_MS);
follow(show, showAway);
