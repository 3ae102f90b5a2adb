/* The fleet's chart: how many keys end when, in each service's colour; and the same as a table. */

import { h } from "./card.js";
import { table } from "./fleet-table.js";

const SVG = "http://www.w3.org/2000/svg";
const DAY = 86400e3;
const HEIGHT = 190;
const LEFT = 36;
const BOTTOM = 22;
const MOST_BARS = 46;

export const CHART_CSS = `
svg{display:block;width:100%;height:auto}svg text{font-size:11px;fill:var(--muted)}svg .grid{stroke:var(--border);stroke-width:1}
svg rect{fill:oklch(62% .14 var(--hue))}
.legend{display:flex;flex-wrap:wrap;gap:4px 16px;margin-top:8px;font-size:.8125rem}
details{margin-top:12px;font-size:.8125rem}summary{cursor:pointer;color:var(--muted)}details[open] summary{margin-bottom:8px}
details .scroll{max-height:16rem;overflow:auto}
`;

/* The same colour for a service everywhere. */
export function hue(id) {
  return [...id].reduce((sum, letter) => (sum * 33 + letter.charCodeAt(0) * 47) % 360, 0);
}

function s(tag, attributes, ...children) {
  const el = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) el.setAttribute(name, value);
  el.append(...children);
  return el;
}

const day = (time) => new Date(time).toLocaleDateString([], { month: "short", day: "numeric", timeZone: "UTC" });

/* Days, weeks, or as many days as it takes to have few enough bars. */
function bars(expiries) {
  const times = expiries.map(({ date }) => Date.parse(`${date}T00:00:00Z`));
  const first = Math.min(...times);
  const days = Math.round((Math.max(...times) - first) / DAY) + 1;
  const span = days <= MOST_BARS ? 1 : Math.max(7, Math.ceil(days / MOST_BARS));
  const all = Array.from({ length: Math.ceil(days / span) }, (_, n) => ({ at: first + n * span * DAY, total: 0, parts: new Map() }));
  expiries.forEach(({ service, tokens }, n) => {
    const bar = all[Math.floor((times[n] - first) / DAY / span)];
    bar.total += tokens;
    bar.parts.set(service, (bar.parts.get(service) ?? 0) + tokens);
  });
  return { all, span };
}

/* The next round number, so that the lines have round ones. */
function top(value) {
  const unit = 10 ** Math.floor(Math.log10(Math.max(value, 1)));
  return Math.max(2, [1, 2, 4, 5, 10].map((n) => n * unit).find((n) => n >= value));
}

export function chart(expiries, names, width) {
  if (!expiries?.length) return [h("p", { class: "empty" }, "There are no keys yet.")];
  const { all, span } = bars(expiries);
  const services = [...new Set(expiries.map(({ service }) => service))].sort();
  const name = (id) => names.get(id) ?? id;
  const high = top(Math.max(...all.map((bar) => bar.total)));
  const y = (value) => (HEIGHT - BOTTOM) - (value / high) * (HEIGHT - BOTTOM - 8);
  const step = (width - LEFT) / all.length;
  const thick = Math.max(1, Math.min(step - 2, 22));
  const when = (bar) => (span === 1 ? day(bar.at) : `${day(bar.at)} to ${day(bar.at + (span - 1) * DAY)}`);
  const most = all.reduce((a, b) => (b.total > a.total ? b : a));
  const sum = all.reduce((total, bar) => total + bar.total, 0);
  const svg = s("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-labelledby": "chart-title chart-desc" },
    s("title", { id: "chart-title" }, "Keys by when they end"),
    s("desc", { id: "chart-desc" }, `${sum.toLocaleString()} keys end from ${when(all[0])} to ${when(all.at(-1))}; most, ${most.total.toLocaleString()}, on ${when(most)}.`));
  for (const value of [0, high / 2, high]) {
    svg.append(s("line", { class: "grid", x1: LEFT, x2: width, y1: y(value), y2: y(value) }),
      s("text", { x: LEFT - 8, y: y(value) + 4, "text-anchor": "end" }, value.toLocaleString()));
  }
  const every = Math.ceil(64 / step);
  all.forEach((bar, n) => {
    const x = LEFT + n * step + (step - thick) / 2;
    let under = 0;
    for (const [id, tokens] of [...bar.parts].sort()) {
      const rect = s("rect", { x, width: thick, y: y(under + tokens), height: Math.max(y(under) - y(under + tokens) - 0.5, 0.5), rx: 1.5 },
        s("title", {}, `${when(bar)}: ${tokens.toLocaleString()} of ${name(id)}`));
      rect.style.setProperty("--hue", hue(id));
      svg.append(rect);
      under += tokens;
    }
    if (n % every === 0 && x + 40 < width) svg.append(s("text", { x, y: HEIGHT - 5 }, day(bar.at)));
  });
  const legend = h("ul", { class: "legend", role: "list", "aria-hidden": "true" }, services.map((id) => {
    const swatch = h("span", { class: "swatch" });
    swatch.style.setProperty("--hue", hue(id));
    return h("li", null, swatch, name(id));
  }));
  const filled = all.filter((bar) => bar.total);
  const columns = [[span === 1 ? "Day" : "Days"], ...services.map((id) => [name(id), "num"])];
  const rows = filled.map((bar) => [when(bar), ...services.map((id) => (bar.parts.get(id) ?? 0).toLocaleString())]);
  return [svg, legend, h("details", null, h("summary", null, "As a table"),
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Keys by when they end, as a table" }, table("", columns, rows)))];
}
