// Presets as buttons with their number keys, and the prompts that were used in this browser before.
import { $, get, send, toast } from "./talk.js";

const KEPT = 8;
const STORE = "streamv2v-prompts";

let shown = "";

function kept() {
  try {
    const found = JSON.parse(localStorage.getItem(STORE) ?? "[]");
    return Array.isArray(found) ? found.filter((text) => typeof text === "string") : [];
  } catch {
    return []; // a browser that keeps nothing
  }
}

export function remember(prompt) {
  const prompts = [prompt, ...kept().filter((text) => text !== prompt)].slice(0, KEPT);
  try {
    localStorage.setItem(STORE, JSON.stringify(prompts));
  } catch {
    return;
  }
  showHistory();
}

export function showHistory() {
  const prompts = kept();
  $("history").hidden = !prompts.length;
  $("history").replaceChildren(...prompts.map((prompt) => {
    const item = document.createElement("li");
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = prompt;
    button.title = prompt;
    button.addEventListener("click", () => {
      $("prompt").value = prompt;
      $("prompt").dispatchEvent(new Event("input"));
      $("prompt").focus();
    });
    item.append(button);
    return item;
  }));
}

export async function callPreset(number) {
  const name = $("presets").children[number - 1]?.dataset.name;
  if (name !== undefined && (await send("/v1/preset", { number }))) toast(name);
}

export function showPreset(current) {
  for (const button of $("presets").children) {
    button.setAttribute("aria-pressed", button.dataset.name === (current ?? ""));
  }
}

// The names of all presets; a service without any has no such row.
export async function refreshPresets() {
  const found = await get("/v1/presets");
  if (!found && $("presets").childElementCount) return null; // not to be had now: what is shown stays
  const presets = found?.presets ?? [];
  const names = presets.map((preset) => preset.name);
  if (JSON.stringify(presets) !== shown) {
    shown = JSON.stringify(presets);
    $("presets").hidden = !presets.length;
    $("presets").replaceChildren(...presets.map((preset, index) => {
      const button = document.createElement("button");
      button.type = "button";
      button.dataset.name = preset.name;
      button.title = preset.prompt ?? "";
      if (index < 9) {
        const key = document.createElement("kbd");
        key.textContent = index + 1;
        key.ariaHidden = "true";
        button.append(key, " ");
        button.setAttribute("aria-keyshortcuts", index + 1);
      }
      button.append(preset.name);
      button.addEventListener("click", () => callPreset(index + 1));
      return button;
    }));
    showPreset(found?.current);
  }
  return names;
}
