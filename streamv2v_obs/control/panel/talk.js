// Talking to the service: requests, the socket that tells its status, and short notes about what came of it.

const RETRY_MS = 1500;

export const $ = (id) => document.getElementById(id);

let toastTimer = 0;
export function toast(text, bad = false) {
  $("toast").textContent = text;
  $("toast").className = bad ? "toast bad" : "toast";
  $("toast").hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { $("toast").hidden = true; }, bad ? 6000 : 1800);
}

export async function send(path, content) {
  try {
    const answer = await fetch(path, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(content),
    });
    const said = await answer.json();
    if (!answer.ok) throw new Error(said.error);
    return said;
  } catch (error) {
    toast(error.message, true);
    return null;
  }
}

// The JSON at a path; null where there is none to be had now, whatever the reason.
export async function get(path) {
  try {
    const answer = await fetch(path);
    return answer.ok ? await answer.json() : null;
  } catch {
    return null;
  }
}

// Calls onStatus with each status, and onAway(locked) when there is none to be had. While nobody looks at the page
// nothing is asked for.
export function follow(onStatus, onAway) {
  let socket = null;
  let timer = 0;

  function open() {
    clearTimeout(timer);
    if (socket || document.hidden) return;
    socket = new WebSocket(`ws://${location.host}/v1/events`);
    socket.addEventListener("message", (event) => onStatus(JSON.parse(event.data)));
    socket.addEventListener("close", closed);
  }

  async function closed() {
    socket = null;
    if (document.hidden) return;
    // Why it was refused, a WebSocket does not say.
    let locked = false;
    try {
      locked = (await fetch("/v1/status")).status === 401;
    } catch {
      // not there: the same as not locked
    }
    onAway(locked);
    timer = setTimeout(open, RETRY_MS);
  }

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) socket?.close();
    else open();
  });
  open();
}

// An image whose source is a stream. A stream that ends in order fires no event, so it is begun anew when the
// service was away; a page that nobody sees looks at nothing, so nothing is encoded for it.
export class Stream {
  constructor(image, address, onPicture) {
    this.image = image;
    this.address = address;
    this.number = 0;
    this.wanted = false;
    this.onPicture = onPicture;
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
    this.onPicture(false);
  }
}
