// Shows the output stream with the key of this page's own address, and comes back whenever the service does.
"use strict";

const picture = document.getElementById("picture");
const key = new URLSearchParams(location.search).get("key");
const RETRY_MS = 1000;
let attempt = 0;

function connect() {
  attempt += 1;
  const query = new URLSearchParams({ n: attempt });
  if (key) query.set("key", key);
  picture.src = `/v1/stream?${query}`;
}

function retry() {
  picture.hidden = true;
  setTimeout(connect, RETRY_MS);
}

// A stream that ends in order fires no event on its image: whether the service is there is asked beside it.
async function watch() {
  try {
    await fetch("/healthz");
    if (lost) connect();
    lost = false;
  } catch {
    lost = true;
    picture.hidden = true;
  }
  setTimeout(watch, RETRY_MS);
}

let lost = false;
picture.addEventListener("load", () => { picture.hidden = false; });
picture.addEventListener("error", retry);
connect();
watch();
