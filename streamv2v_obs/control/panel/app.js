// The panel: asks for the status twice a second, and sends what people do. It holds no state of the service's.
"use strict";

const POLL_MS = 500;
const RETRY_MS = 1500;
const MEANING = {
  TRANSLATED: "the translated picture is on air",
  HOLD: "nothing fresh: the last picture is held",
  SLATE: "the slate is on air",
  BYPASS: "the captured picture itself is on air",
  OFFLINE: "the service does not answer",
  LOCKED: "this browser has no access",
};

const $ = (id) => document.getElementById(id);
const body = document.body;
let status = null;
let edited = new Set();
let watching = false;

// --- talking to the service ---------------------------------------------------------------------------------

async function send(path, content) {
  try {
    const answer = await fetch(path, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(content),
    });
    const said = await answer.json();
    if (!answer.ok) throw new Error(said.error);
    refresh();
    return true;
  } catch (error) {
    toast(error.message, true);
    return false;
  }
}

async function refresh() {
  let locked = false;
  try {
    const answer = await fetch("/v1/status");
    locked = answer.status === 401;
    status = answer.ok ? await answer.json() : null;
  } catch {
    status = null;
  }
  if (status) show(status);
  else showAway(locked);
}

async function poll() {
  if (!document.hidden) await refresh();
  setTimeout(poll, status ? POLL_MS : RETRY_MS);
}

// --- pictures -----------------------------------------------------------------------------------------------

// An image whose source is a stream. A stream that ends in order fires no event, so it is begun anew when the
// service was away; a page that nobody sees looks at nothing, so nothing is encoded for it.
class Stream {
  constructor(image, address, onPicture) {
    this.image = image;
    this.address = address;
    this.number = 0;
    this.wanted = false;
    image.addEventListener("load", () => {
      if (!this.wanted) return;
      image.hidden = false;
      onPicture(true);
    });
    image.addEventListener("error", () => {
      image.hidden = true;
      onPicture(false);
      if (this.wanted) setTimeout(() => this.wanted && this.begin(), RETRY_MS);
    });
  }

  begin() {
    this.wanted = true;
    this.number += 1;
    this.image.src = `${this.address}n=${this.number}`;
  }

  end() {
    this.wanted = false;
    this.image.removeAttribute("src");
    this.image.hidden = true;
  }
}

const output = new Stream($("output"), "/v1/stream?", (there) => { $("empty").hidden = there; });
const input = new Stream($("input"), "/v1/stream?view=input&", () => {});

async function watchInput(on) {
  if (on && !(await send("/v1/input", { on }))) return;
  watching = on;
  $("show-input").setAttribute("aria-expanded", on);
  $("show-input").textContent = on ? "Hide input" : "Show input";
  $("input-figure").hidden = !on;
  if (on) {
    input.begin();
  } else {
    input.end();
    send("/v1/input", { on });
  }
}

// --- showing ------------------------------------------------------------------------------------------------

function show(found) {
  const { publish, engine, obs } = found;
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
    `${publish.fps.toFixed(1)} fps out`,
    engine ? `${engine.translate_fps.toFixed(1)} fps translated` : "",
    publish.content_age_ms_p50 === null ? "" : `${Math.round(publish.content_age_ms_p50)} ms behind`,
  ].filter(Boolean).join("  \u00b7  ");

  if (engine) showEngine(engine);
  showLines(found, publish, engine, obs);
}

function showEngine(engine) {
  if (engine.state === "opening" || engine.state === "loading") return;
  fill("prompt", engine.prompt);
  fill("strength", engine.strength);
  fill("seed", engine.seed);
  $("strength-value").textContent = Number($("strength").value).toFixed(2);
  const stored = engine.scenes_stored;
  const kind = engine.bank === "off" ? "off" : `${engine.bank}, ${engine.bank_filled ? "filled" : "empty"}`;
  $("bank-state").textContent = `${kind}; scenes kept: ${stored.join(", ") || "none"}`;
  $("restore").disabled = !stored.includes(engine.scene);
  $("restore").title = engine.scene ? `Scene ${engine.scene}` : "No scene of OBS is known";
}

function showLines(found, publish, engine, obs) {
  const lines = [["Engine", engineText(found), found.engine_state === "waiting"]];
  if (engine) {
    lines.push(["Source", `${engine.source || "opening"}, ${engine.capture_fps.toFixed(1)} fps`]);
    if (engine.model) {
      lines.push(["Model", `${engine.model} on ${engine.device}, ${engine.width}\u00d7${engine.height}`]);
      lines.push(["Speed", spread(engine.translate_ms_p50, engine.translate_ms_p95)]);
    }
    if (engine.note) lines.push(["Note", engine.note, true]);
  }
  lines.push(["Latency", spread(publish.content_age_ms_p50, publish.content_age_ms_p95)]);
  for (const one of publish.outputs) lines.push([one.kind, one.detail, !one.ok]);
  lines.push(["OBS", [obs.state, obs.scene && `scene ${obs.scene}`, obs.detail].filter(Boolean).join(", "), obs.state === "refused"]);
  for (const notice of found.notices) lines.push(["Notice", notice]);
  $("lines").replaceChildren(...lines.flatMap(([name, text, bad]) => {
    const term = document.createElement("dt");
    const value = document.createElement("dd");
    term.textContent = name;
    value.textContent = text;
    value.className = bad ? "bad" : "";
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
  setState(locked ? "LOCKED" : "OFFLINE", MEANING[locked ? "LOCKED" : "OFFLINE"]);
  banner(locked ? "Open the panel with a fresh link; this prints one: streamv2v-obs open" : "");
  output.end();
  $("empty").hidden = false;
  $("headline").textContent = "";
  $("lines").replaceChildren();
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
  for (const button of document.querySelectorAll("[data-bank=reset]")) button.disabled = away;
  if (away) $("restore").disabled = true;
}

function banner(text) {
  $("banner").hidden = !text;
  if ($("banner").textContent !== text) $("banner").textContent = text;
}

// What somebody is about to send is not overwritten by what is in force.
function fill(id, value) {
  if (!edited.has(id)) $(id).value = value;
}

let toastTimer = 0;
function toast(text, bad = false) {
  $("toast").textContent = text;
  $("toast").className = bad ? "toast bad" : "toast";
  $("toast").hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { $("toast").hidden = true; }, bad ? 6000 : 1800);
}

// --- doing --------------------------------------------------------------------------------------------------

for (const id of ["prompt", "strength", "seed"]) {
  $(id).addEventListener("input", () => edited.add(id));
}
$("strength").addEventListener("input", () => {
  $("strength-value").textContent = Number($("strength").value).toFixed(2);
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
  for (const id of edited) change[id] = id === "prompt" ? $(id).value : Number($(id).value);
  if ($("fresh").checked) change.bank = "reset";
  if (!Object.keys(change).length) {
    toast("Nothing has changed");
    return;
  }
  if (await send("/v1/prompt", change)) {
    // The engine tells what it applied half a second later; until then the old values would flash up.
    setTimeout(() => { edited = new Set(); }, 1500);
    $("fresh").checked = false;
    toast("Applied from the next frame on");
  }
});

for (const button of document.querySelectorAll("[data-bank]")) {
  button.addEventListener("click", async () => {
    if (await send("/v1/bank", { policy: button.dataset.bank })) toast(`Bank: ${button.dataset.bank}`);
  });
}

$("panic").addEventListener("click", () => send("/v1/panic", { on: !status?.publish.panic }));

$("bypass").addEventListener("click", () => {
  if (status?.publish.bypass) send("/v1/bypass", { on: false });
  else $("confirm").showModal();
});
$("confirm").addEventListener("close", () => {
  if ($("confirm").returnValue === "yes") send("/v1/bypass", { on: true });
  $("confirm").returnValue = "";
});

$("show-input").addEventListener("click", () => watchInput(!watching));

document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    output.end();
    if (watching) input.end();
  } else {
    refresh();
    if (watching) input.begin();
  }
});
addEventListener("pagehide", () => {
  if (watching) {
    const content = { method: "POST", headers: { "content-type": "application/json" }, body: '{"on": false}' };
    fetch("/v1/input", { ...content, keepalive: true });
  }
});

poll();
