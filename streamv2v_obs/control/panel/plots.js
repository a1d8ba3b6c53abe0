// Lines over the last minutes, drawn from the service's own history; nothing is smoothed, and a gap stays one.

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 600;
const HEIGHT = 180;
const LEFT = 66;
const BOTTOM = 32;
const TOP = 16;
const SHORTEST_S = 60;
const LONGEST_S = 600;
const GAP_S = 5;

function make(name, attributes = {}, text = "") {
  const found = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) found.setAttribute(key, value);
  if (text) found.textContent = text;
  return found;
}

// The least of 1, 2, 4, 6, 8, 10, 20, .. that is not below the value, for an axis that does not jump about.
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1)));
  return [1, 2, 4, 6, 8, 10].map((step) => step * power).find((step) => step >= value) ?? 10 * power;
}

function ago(seconds) {
  return seconds >= 60 ? `${+(seconds / 60).toFixed(1)} min ago` : `${Math.round(seconds)} s ago`;
}

export class Plot {
  // lines: {key, name, className} each, key naming a number of a point.
  constructor(figure, lines, unit, digits) {
    this.lines = lines;
    this.unit = unit;
    this.digits = digits;
    this.points = [];
    this.legend = document.createElement("ul");
    this.legend.className = "legend";
    this.values = lines.map(({ name, className }) => {
      const entry = document.createElement("li");
      const value = document.createElement("b");
      entry.className = className;
      entry.append(name, " ", value);
      this.legend.append(entry);
      return value;
    });
    figure.querySelector("figcaption").append(this.legend);
    this.svg = make("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": "No figures yet" });
    figure.append(this.svg);
    this.pointer = null; // where somebody points at, from the window's left edge
    this.svg.addEventListener("pointermove", (event) => {
      this.pointer = event.clientX;
      this.point();
    });
    this.svg.addEventListener("pointerleave", () => {
      this.pointer = null;
      this.show(this.points.at(-1));
    });
  }

  text(value) {
    return value === null || value === undefined ? "\u2013" : `${value.toFixed(this.digits)}${this.unit}`;
  }

  draw(points) {
    this.points = points;
    if (!points.length) return;
    const now = points.at(-1).uptime_s;
    // Not now - span below: rounded, that may be later than the oldest point.
    const since = Math.min(now - SHORTEST_S, Math.max(now - LONGEST_S, points[0].uptime_s));
    const span = now - since;
    const seen = points.filter((point) => point.uptime_s >= since);
    const highest = Math.max(0, ...seen.flatMap((point) => this.lines.map(({ key }) => point[key] ?? 0)));
    const top = roundUp(highest * 1.05);
    this.x = (at) => LEFT + (WIDTH - LEFT - 4) * (1 - (now - at) / span);
    this.y = (value) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / top);
    const drawn = [];
    for (const value of [0, top / 2, top]) {
      const y = this.y(value);
      drawn.push(make("line", { x1: LEFT, x2: WIDTH, y1: y, y2: y, class: "grid" }));
      drawn.push(make("text", { x: LEFT - 6, y: y + 6, class: "tick end" }, String(+value.toFixed(1))));
    }
    for (const [part, anchor] of [[1, "start"], [0.5, "middle"], [0, "end"]]) {
      const text = part ? ago(span * part) : "now";
      const x = LEFT + (WIDTH - LEFT - 4) * (1 - part);
      drawn.push(make("text", { x, y: HEIGHT - 6, class: `tick ${anchor}` }, text));
    }
    for (const { key, className } of this.lines) {
      drawn.push(make("path", { d: this.path(seen, key), class: `line ${className}` }));
    }
    this.cursor = make("line", { y1: TOP, y2: HEIGHT - BOTTOM, class: "cursor", visibility: "hidden" });
    this.svg.replaceChildren(...drawn, this.cursor);
    if (this.pointer === null) this.show(points.at(-1));
    else this.point();
    const newest = points.at(-1);
    const said = this.lines.map(({ key, name }) => `${name} ${this.text(newest[key])}`).join(", ");
    this.svg.setAttribute("aria-label", `Now: ${said}; the last ${ago(span).replace(" ago", "")}`);
  }

  path(points, key) {
    let last = null;
    let path = "";
    for (const point of points) {
      const value = point[key];
      if (value === null || value === undefined) {
        last = null;
        continue;
      }
      const move = last === null || point.uptime_s - last > GAP_S;
      path += `${move ? "M" : "L"}${this.x(point.uptime_s).toFixed(1)} ${this.y(value).toFixed(1)}`;
      last = point.uptime_s;
    }
    return path;
  }

  point() {
    if (!this.points.length) return;
    const box = this.svg.getBoundingClientRect();
    const at = ((this.pointer - box.left) / box.width) * WIDTH;
    const nearest = this.points.reduce((a, b) => (
      Math.abs(this.x(a.uptime_s) - at) <= Math.abs(this.x(b.uptime_s) - at) ? a : b
    ));
    const x = this.x(nearest.uptime_s);
    this.cursor.setAttribute("x1", x);
    this.cursor.setAttribute("x2", x);
    this.cursor.setAttribute("visibility", "visible");
    this.show(nearest, false);
  }

  show(point, hide = true) {
    if (hide && this.cursor) this.cursor.setAttribute("visibility", "hidden");
    this.lines.forEach(({ key }, index) => { this.values[index].textContent = this.text(point?.[key]); });
  }
}

// What the service's history keeps of a status; its points and those that are added here are of one kind.
export function pointOf({ uptime_s, publish, engine }) {
  return {
    uptime_s,
    publish_fps: publish.fps,
    translate_fps: engine?.translate_fps ?? null,
    age_ms_p50: publish.content_age_ms_p50,
    age_ms_p95: publish.content_age_ms_p95,
  };
}
