// The rules for OBS's scenes as a list of small forms. What has no field here (source, style, ..) stays as it was.
import { $, get, send, toast } from "./talk.js";

let rules = [];
let presets = [];
let changed = false;
let inForce = null;

function field(label, control) {
  const found = document.createElement("label");
  const text = document.createElement("span");
  text.textContent = label;
  found.append(text, control);
  return found;
}

function input(rule, key, attributes) {
  const found = document.createElement("input");
  Object.assign(found, attributes);
  found.value = rule[key] ?? "";
  found.addEventListener("input", () => {
    const value = found.value.trim();
    if (value === "") delete rule[key];
    else rule[key] = found.type === "number" ? Number(value) : found.value;
    touch();
  });
  return found;
}

function choice(rule, key, options) {
  const found = document.createElement("select");
  for (const [value, text] of options) found.add(new Option(text, value));
  const value = String(rule[key] ?? "");
  // Said in the file, though it goes without saying: it may be there to win over a preset.
  if (!options.some(([one]) => one === value)) found.add(new Option(value, value));
  found.value = value;
  found.addEventListener("change", () => {
    if (found.value === "") delete rule[key];
    else rule[key] = found.value;
    touch();
  });
  return found;
}

function button(text, label, act) {
  const found = document.createElement("button");
  found.type = "button";
  found.className = "small";
  found.textContent = text;
  found.setAttribute("aria-label", label);
  found.title = label;
  found.addEventListener("click", act);
  return found;
}

function row(rule, place) {
  const found = document.createElement("li");
  const name = () => rule.scene || `rule ${place + 1}`;
  found.dataset.scene = rule.scene;
  const buttons = document.createElement("span");
  buttons.className = "row tight";
  const up = button("\u2191", `Move ${name()} up`, () => move(place, -1));
  up.disabled = place === 0;
  buttons.append(up, button("\u2715", `Remove ${name()}`, () => {
    rules.splice(place, 1);
    touch();
    draw();
  }));
  found.append(
    field("Scene", input(rule, "scene", { maxLength: 1000, required: true, placeholder: "Game *" })),
    field("Prompt", input(rule, "prompt", { maxLength: 1000, placeholder: "stays" })),
    field("Preset", choice(rule, "preset", [["", "none"], ...presets.map((preset) => [preset, preset])])),
    field("Strength", input(rule, "strength", { type: "number", min: 0.02, max: 1, step: 0.01, placeholder: "stays" })),
    field("Bank", choice(rule, "bank", ["", "reset", "restore", "fade"].map((one) => [one, one || "keep"]))),
    field("When", choice(rule, "when", [["", "transition ends"], ["start", "transition starts"]])),
    field("Blend, s", input(rule, "blend_s", { type: "number", min: 0, max: 60, step: 0.1, placeholder: "0" })),
    field("Shows", choice(rule, "output", [
      ["", "as before"], ["translated", "translation"], ["slate", "slate"], ["bypass", "the raw picture"],
    ])),
    buttons,
  );
  return found;
}

function move(place, by) {
  const [rule] = rules.splice(place, 1);
  rules.splice(place + by, 0, rule);
  touch();
  draw();
}

function touch(on = true) {
  changed = on;
  $("save-rules").disabled = !on;
  $("discard-rules").hidden = !on;
}

function draw() {
  $("rules").replaceChildren(...rules.map(row));
  mark(inForce);
}

function mark(scene) {
  for (const item of $("rules").children) item.classList.toggle("in-force", item.dataset.scene === scene);
}

// Which rule OBS's scene has put in force.
export function showRuleInForce(scene) {
  if (scene !== inForce) mark(scene);
  inForce = scene;
}

// What the service has; not while somebody edits.
export async function refreshRules(known = presets) {
  const busy = () => changed || $("rules").contains(document.activeElement);
  const found = busy() ? null : await get("/v1/rules");
  if (!found || busy()) return;
  const same = JSON.stringify([found.rules, known]) === JSON.stringify([rules, presets]);
  $("rules-file").textContent = found.file ? `kept in ${found.file.split(/[\\/]/).at(-1)}` : "cannot be edited here";
  $("rules-file").title = found.file ?? "";
  $("add-rule").disabled = !found.file;
  if (same) return; // the forms on the page belong to the rules that they were made of
  presets = known;
  rules = found.rules;
  draw();
}

$("add-rule").addEventListener("click", () => {
  rules.push({ scene: "" });
  touch();
  draw();
  $("rules").lastElementChild.querySelector("input").focus();
});

$("discard-rules").addEventListener("click", () => {
  touch(false);
  rules = [];
  refreshRules();
});

$("save-rules").addEventListener("click", async () => {
  if (await send("/v1/rules", { rules })) {
    touch(false);
    toast("Saved and in force");
    refreshRules();
  }
});
