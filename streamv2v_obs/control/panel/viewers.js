// Prompts that viewers ask for: the streamer approves, rejects, or drops them all. Hidden while viewers may not ask.
import { $, get, send } from "./talk.js";

const EVERY_MS = 2000;

function button(text, label, content) {
  const found = document.createElement("button");
  found.type = "button";
  found.className = "small";
  found.textContent = text;
  found.setAttribute("aria-label", label);
  found.addEventListener("click", async () => {
    await send("/v1/viewers", content);
    look();
  });
  return found;
}

function row(one, waits) {
  const found = document.createElement("li");
  const text = document.createElement("span");
  // As text, never as markup: a stranger wrote it.
  text.textContent = one.name ? `${one.name}: ${one.text}` : one.text;
  found.append(text);
  if (waits) {
    found.append(
      button("Approve", `Approve ${one.text}`, { approve: one.number }),
      button("Reject", `Reject ${one.text}`, { reject: one.number }),
    );
  }
  return found;
}

let shown = "";
async function look() {
  if (document.hidden) return;
  const told = await get("/v1/viewers");
  if (!told || JSON.stringify(told) === shown) return;
  shown = JSON.stringify(told);
  $("viewers").hidden = !told.on;
  $("viewers-now").textContent = told.shown ? `Shown: ${told.shown.text}` : "Nothing of viewers is shown.";
  $("viewers-list").replaceChildren(
    ...told.waiting.map((one) => row(one, true)),
    ...told.approved.map((one) => row(one, false)),
  );
}

$("viewers-clear").addEventListener("click", async () => {
  await send("/v1/viewers", { clear: true });
  look();
});
setInterval(look, EVERY_MS);
look();
