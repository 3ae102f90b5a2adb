/* <service-connectors-fleet>: everybody's connections, for admins.
 *
 * Attribute: api="/api/service-connectors". Looks: as the card's (see `card.js`).
 * What is searched and filtered is in the page's address, so that it can be sent to a colleague.
 */

import { ask, BASE_CSS, button, h, openDialog, sheets, STATES, text, time } from "./card.js";
import { chart, CHART_CSS, hue } from "./fleet-chart.js";
import { plan, PLAN_CSS } from "./fleet-plan.js";
import { act, show, table } from "./fleet-table.js";

const FILTERS = ["q", "user", "service", "state", "page"];
const PER_PAGE = 25;
const LOOK_EVERY = 10e3;
const HEALTH = {
  ok: ["ok", "Healthy"],
  down: ["bad", "Down"],
  secret_refused: ["bad", "Refuses our secret"],
  clock_skew: ["warn", "Clock is off"],
  unknown: ["idle", "Not called yet"],
};

const CSS = `
:host{font-size:.875rem}
h2{margin-bottom:12px}
section{margin-bottom:16px}
.pair{display:grid;grid-template-columns:minmax(0,3fr) minmax(0,2fr);gap:16px;margin-bottom:16px}.pair section{margin:0}
.panel{padding:18px;border:var(--line);border-radius:var(--radius);background:var(--surface);box-shadow:var(--shadow)}
.soft,caption,.pass{color:var(--muted)}
.pass{margin-bottom:20px;font-size:.8125rem}
.filters{display:flex;flex-wrap:wrap;gap:10px;align-items:end;margin-bottom:12px}
label{display:grid;gap:4px;font-size:.75rem;font-weight:550;color:var(--muted)}
.filters label{flex:1 1 9rem}.filters label:first-child{flex:4 1 14rem}
input,select{font:inherit;font-size:.875rem;min-height:36px;padding:7px 11px;min-width:0;width:100%;border:1px solid color-mix(in srgb,var(--text) 45%,var(--surface));border-radius:calc(var(--radius)*.6);background:var(--surface);color:var(--text)}
.chips{display:flex;flex-wrap:wrap;gap:6px;margin-bottom:14px}
.chip{display:inline-flex;gap:6px;align-items:center;min-height:30px;padding:3px 11px;border-radius:99px;font-size:.8125rem;font-weight:500}
.chip::before{content:"";width:7px;height:7px;border-radius:50%;background:var(--tone,var(--muted))}.chip.all::before{display:none}
.chip[aria-pressed=true]{border-color:var(--accent);background:color-mix(in srgb,var(--accent) 12%,var(--surface));font-weight:600}
.chip b{font-weight:600;font-variant-numeric:tabular-nums}
table{width:100%;border-collapse:collapse;text-align:start}
caption{text-align:start;padding-bottom:6px;font-size:.8125rem}
th{font-size:.75rem;font-weight:550;color:var(--muted);text-align:start;white-space:nowrap}
th,td{padding:9px 12px 9px 0;border-bottom:var(--line);vertical-align:baseline}
tbody tr:last-child td{border-bottom:0}
td.num,th.num{text-align:end;font-variant-numeric:tabular-nums}
td time,.nowrap{white-space:nowrap}
button.link{min-height:0;padding:0;border:0;background:none;font-weight:550;text-align:start;color:var(--text)}
button.link:hover{color:var(--accent);text-decoration:underline}
button.small{min-height:26px;padding:2px 8px;font-size:.8125rem}
.held{--tone:var(--held)}.held.panel{border-color:color-mix(in srgb,var(--held) 45%,var(--border));background:color-mix(in srgb,var(--held) 6%,var(--surface));margin-bottom:20px}
.held ul{margin:6px 0 12px 18px;list-style:disc}
.row{display:flex;flex-wrap:wrap;gap:8px 12px;align-items:center}
.pager{display:flex;gap:8px;align-items:center;justify-content:flex-end;margin-top:12px}.pager p{margin-inline-end:auto;color:var(--muted)}
.services li{display:grid;grid-template-columns:1fr auto;gap:2px 12px;padding:10px 0;border-bottom:var(--line)}.services li:last-child{border:0;padding-bottom:0}.services li:first-child{padding-top:0}
.services p{grid-column:1/-1;font-size:.8125rem}
.swatch{display:inline-block;width:9px;height:9px;border-radius:3px;margin-inline-end:8px;background:oklch(62% .14 var(--hue))}
dialog input{margin-bottom:4px}
.empty{padding:20px 0;color:var(--muted)}
@container(max-width:56rem){.pair{grid-template-columns:minmax(0,1fr)}}
@container(max-width:44rem){
.stack thead{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
.stack,.stack tbody,.stack tr,.stack td,.stack caption{display:block}
.stack tr{padding:12px 0;border-bottom:var(--line)}.stack tr:last-child{border:0}
.stack td{display:flex;gap:12px;justify-content:space-between;padding:3px 0;border:0;text-align:end}
.stack td:empty{display:none}
.people tr{display:grid;grid-template-columns:minmax(0,1fr) auto;gap:3px 12px}
.people td{grid-column:1;padding:0}.people td::before{display:none}.people td:nth-child(3),.people td:nth-child(4),.people td:nth-child(6){grid-column:2;justify-content:end}
.people td:nth-child(1),.people td:nth-child(3){grid-row:1}.people td:nth-child(2),.people td:nth-child(4){grid-row:2}.people td:nth-child(5),.people td:nth-child(6){grid-row:3}
.people td:nth-child(5){text-align:start}.people .small{padding-inline-end:0}
.stack:not(.people) td::before{content:attr(data-label);color:var(--muted);font-size:.75rem;padding-top:2px;text-align:start;flex:none}}
`;

const count = (n) => Number(n ?? 0).toLocaleString();

function age(since) {
  const minutes = Math.max(0, Math.floor((Date.now() - Date.parse(since)) / 60e3));
  const of = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;
  if (minutes < 60) return of(minutes, "minute");
  return minutes < 48 * 60 ? of(Math.floor(minutes / 60), "hour") : of(Math.floor(minutes / 1440), "day");
}

const badge = ([tone, label]) => h("span", { class: `badge ${tone}` }, label);

class Fleet extends HTMLElement {
  #number = 0; // of the newest question: an answer to an older one is dropped

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    root.adoptedStyleSheets = sheets(BASE_CSS, CSS, CHART_CSS, PLAN_CSS);
    const typed = (name, label, type) => h("input", { name, type, autocomplete: "off", spellcheck: "false", placeholder: label });
    this.fields = {
      q: typed("q", "A name, a service, a message", "search"),
      user: typed("user", "Anybody", "text"),
      service: h("select", { name: "service" }, h("option", { value: "" }, "Any service")),
    };
    const field = (label, name) => h("label", null, label, this.fields[name]);
    this.parts = {
      pass: h("p", { class: "pass" }, "Loading…"),
      banner: h("div", { class: "banner", role: "status", hidden: true }),
      held: h("div"),
      chart: h("section", { class: "panel", "aria-labelledby": "ends" }),
      services: h("section", { class: "panel", "aria-labelledby": "health" }),
      chips: h("div", { class: "chips", role: "group", "aria-label": "Filter by state" }),
      table: h("div"),
      pager: h("nav", { class: "pager", "aria-label": "Pages" }),
      debts: h("section", { class: "panel", "aria-labelledby": "debts" }),
      plan: h("section", { class: "panel", "aria-labelledby": "plan" }),
    };
    this.say = h("div", { class: "say", "aria-live": "polite" });
    const { pass, banner, held, chart: ends, services, chips, table: all, pager, debts, plan: latest } = this.parts;
    this.body = h("div", { lang: "en", hidden: true }, held, h("div", { class: "pair" }, ends, services), debts,
      h("section", { class: "panel", "aria-labelledby": "connections" },
        h("div", { class: "row" }, h("h2", { id: "connections" }, "Connections")),
        h("form", { class: "filters", role: "search", onsubmit: (event) => event.preventDefault() },
          field("Search", "q"), field("User", "user"), field("Service", "service")),
        chips, all, pager), latest);
    root.append(h("div", { lang: "en" }, pass, banner), this.body, this.say);
    root.addEventListener("click", (event) => this.#click(event));
    for (const [name, el] of Object.entries(this.fields)) {
      el.addEventListener("input", () => {
        clearTimeout(this.typing);
        this.typing = setTimeout(() => this.#filter({ [name]: el.value.trim() }, true), el.localName === "select" ? 0 : 250);
      });
    }
    this.resized = new ResizeObserver(() => this.data && this.#chart());
  }

  get api() {
    return (this.getAttribute("api") || "/api/service-connectors").replace(/\/+$/, "");
  }

  connectedCallback() {
    const signal = (this.stop = new AbortController()).signal;
    addEventListener("popstate", () => this.#load(), { signal });
    document.addEventListener("visibilitychange", () => document.hidden || this.#load(), { signal });
    this.resized.observe(this);
    this.#load();
  }

  disconnectedCallback() {
    this.stop.abort();
    clearTimeout(this.timer);
    this.resized.disconnect();
  }

  #filters() {
    const asked = new URLSearchParams(location.search);
    return Object.fromEntries(FILTERS.map((name) => [name, asked.get(name) ?? ""]));
  }

  #filter(change, typing) {
    const filters = { ...this.#filters(), page: "", ...change };
    const query = new URLSearchParams(Object.entries(filters).filter(([name, value]) => value && !(name === "page" && value === "1")));
    const url = `${location.pathname}${query.size ? `?${query}` : ""}`;
    history[typing ? "replaceState" : "pushState"](null, "", url);
    this.told = true;
    this.#load();
  }

  async #load() {
    clearTimeout(this.timer);
    const number = (this.#number += 1);
    const given = Object.entries(this.#filters()).filter(([, value]) => value);
    const query = new URLSearchParams([...given, ["per_page", PER_PAGE]]);
    try {
      const data = await ask(`${this.api}/fleet?${query}`);
      if (number !== this.#number) return;
      const passed = data.last_pass?.at;
      this.data = data;
      this.#banner("");
      this.#render();
      if (!this.recorded || this.passed !== passed) {
        this.recorded = await ask(`${this.api}/plan`);
        this.passed = passed;
        show(this.parts.plan, plan(this.recorded));
      }
    } catch (failure) {
      if (number !== this.#number) return;
      this.#banner(failure.message, failure.status === 401);
      if (failure.status === 401 || failure.status === 403) return;
    }
    if (!this.stop.signal.aborted && !document.hidden) this.timer = setTimeout(() => this.#load(), LOOK_EVERY);
  }

  #banner(message, reload) {
    this.parts.banner.hidden = !message;
    show(this.parts.banner, message && h("span", null, message), reload && h("a", { href: location.href }, "Reload"));
  }

  #speak(words) {
    text(this.say, words);
  }

  /* ---- clicks ---- */

  #click(event) {
    const el = event.target.closest("[data-act]");
    if (!el || el.ariaDisabled === "true") return;
    const { act: name, value } = el.dataset;
    if (FILTERS.includes(name)) this.#filter({ [name]: this.#filters()[name] === value ? "" : value });
    else if (name === "offboard") this.#offboard(value);
    else if (name === "approve") this.#approve();
    else if (name === "copy") {
      navigator.clipboard?.writeText(value).then(() => this.#speak("Copied."), () => this.#speak("Select it, and copy it by hand."));
    }
  }

  #offboard(user) {
    const typed = h("input", { type: "text", autocomplete: "off", spellcheck: "false", "aria-describedby": "why wrong" });
    const wrong = h("p", { id: "wrong", class: "soft", "aria-live": "polite" }, " ");
    const dialog = openDialog(this.body, `Offboard ${user}?`, [
      h("p", null, "Everything is taken back: each key is revoked, and the files leave the home with the next pass. Nothing is issued to this person until an admin edits the desired state."),
      h("label", null, `Type ${user} to confirm`, typed), wrong,
    ], [["Cancel", ""], [`Offboard ${user}`, "danger", () => this.#send("offboard", { user })]]);
    const [, confirm] = dialog.querySelectorAll(".acts button");
    const check = () => {
      confirm.ariaDisabled = String(typed.value.trim() !== user);
      text(wrong, typed.value && typed.value.trim() !== user ? "Not yet the same." : " ");
    };
    typed.addEventListener("input", check);
    typed.addEventListener("keydown", (event) => event.key === "Enter" && confirm.click());
    check();
    typed.focus();
  }

  #approve() {
    const { digest, connections } = this.data.held;
    openDialog(this.body, `Take away ${count(connections)} connections?`, [
      h("p", null, "The guard holds them because they are many at once. Approved, the next pass takes them away, exactly this set and no other:"),
      h("ul", null, this.data.held.why.map((line) => h("li", null, line))),
      h("p", null, h("code", null, digest)),
    ], [["Cancel", ""], ["Approve", "danger", () => this.#send("approve", { digest })]]);
  }

  async #send(action, body) {
    try {
      const { message } = await ask(`${this.api}/${action}`, body);
      this.#speak(message ?? "Done.");
      await this.#load();
      this.#banner(message);
    } catch (failure) {
      this.#banner(failure.message, failure.status === 401);
      this.#speak(failure.message);
    }
  }

  /* ---- what is seen ---- */

  #render() {
    this.body.hidden = false;
    this.#pass();
    this.#held();
    this.#fields();
    this.#chips();
    this.#connections();
    this.#debts();
    this.#services();
    this.#chart();
    if (this.told) this.#speak(`${count(this.data.total)} connections.`);
    this.told = false;
  }

  #pass() {
    const pass = this.data.last_pass;
    if (!pass) show(this.parts.pass, "No pass was recorded yet.");
    else show(this.parts.pass, "Last pass ", time(pass.at), ` in ${count(pass.took_ms)} ms, exit ${pass.exit}. `, pass.summary ?? "");
  }

  #held() {
    const { held } = this.data;
    if (!held) return void show(this.parts.held);
    const command = `service-connector approve ${held.digest}`;
    show(this.parts.held, h("section", { class: "panel held", "aria-labelledby": "held" },
      h("h2", { id: "held" }, `The guard holds ${count(held.connections)} connections`),
      h("p", null, "They stay exactly as they are until somebody approves:"),
      h("ul", null, held.why.map((line) => h("li", null, line))),
      h("div", { class: "row" }, held.may_approve
        ? act("Look, and approve", "main", "approve", held.digest)
        : [h("code", null, command), act("Copy", "small", "copy", command, "Copy the command"), h("span", { class: "soft" }, "runs on the server")])));
  }

  #fields() {
    const filters = this.#filters();
    const known = this.data.services.map((service) => h("option", { value: service.id }, service.name));
    show(this.fields.service, h("option", { value: "" }, "Any service"), known);
    for (const [name, el] of Object.entries(this.fields)) {
      if (el !== this.shadowRoot.activeElement || el.localName === "select") el.value = filters[name];
    }
  }

  #chips() {
    const { counts } = this.data;
    const { state } = this.#filters();
    const names = [...new Set([...Object.keys(STATES), ...Object.keys(counts)])].filter((name) => counts[name] || name === state);
    const all = Object.values(counts).reduce((sum, n) => sum + n, 0);
    const chip = (name, [tone, label], n) => {
      const el = act([label, " ", h("b", null, count(n))], `chip ${tone}`, "state", name);
      el.ariaPressed = String(state === name);
      return el;
    };
    show(this.parts.chips, chip("", ["all", "All"], all), names.map((name) => chip(name, STATES[name] ?? ["idle", name], counts[name])));
  }

  #connections() {
    const { connections, total, page, per_page: per } = this.data;
    const names = new Map(this.data.services.map(({ id, name }) => [id, name]));
    const rows = connections.map((one) => [
      act(one.user, "link", "user", one.user, `Only ${one.user}`),
      names.get(one.service) ?? one.service,
      badge(STATES[one.state] ?? ["idle", one.state]),
      one.expires_at && time(one.expires_at, { dateStyle: "medium" }),
      h("span", { class: "soft" }, one.message ?? ""),
      act("Offboard", "quiet small", "offboard", one.user, `Offboard ${one.user}`),
    ]);
    const columns = [["User"], ["Service"], ["State"], ["Works until"], ["Message"], ["", "num"]];
    const from = (page - 1) * per;
    const range = total ? `${count(from + 1)} to ${count(from + connections.length)} of ${count(total)}` : "Nothing fits these filters.";
    show(this.parts.table, rows.length ? table("", columns, rows, "people") : h("p", { class: "empty" }, range));
    const turn = (label, to, on) => {
      const el = act(label, "small", "page", String(to));
      el.ariaDisabled = String(!on);
      return el;
    };
    const turns = total > per && [turn("Previous", page - 1, page > 1), turn("Next", page + 1, from + per < total)];
    show(this.parts.pager, h("p", null, rows.length ? range : ""), turns || []);
  }

  #debts() {
    const { debts } = this.data;
    const oldest = [...debts].sort((a, b) => Date.parse(a.since) - Date.parse(b.since));
    show(this.parts.debts, h("h2", { id: "debts" }, "Debts"), debts.length
      ? table("Revokes that no service has confirmed yet. Each pass tries again.", [["User"], ["Service"], ["Age", "nowrap"], ["Why"]],
        oldest.map((debt) => [debt.user, debt.service, h("time", { datetime: debt.since, title: new Date(debt.since).toLocaleString() }, age(debt.since)), debt.why]))
      : h("p", { class: "soft" }, "Nothing is owed: every revoke was confirmed."));
  }

  #services() {
    const { services } = this.data;
    show(this.parts.services, h("h2", { id: "health" }, "Services"), h("ul", { class: "services", role: "list" }, services.map((service) => {
      const swatch = h("span", { class: "swatch", "aria-hidden": "true" });
      swatch.style.setProperty("--hue", hue(service.id));
      const orphans = service.possible_orphans ? ` · ${count(service.possible_orphans)} keys may be lost` : "";
      return h("li", null,
        h("span", null, swatch, act(service.name, "link", "service", service.id, `Only ${service.name}`)),
        badge(HEALTH[service.health] ?? ["idle", service.health]),
        h("p", { class: "soft" }, `${count(service.connections)} connections${orphans}`, service.message ? ` · ${service.message}` : ""));
    })));
  }

  #chart() {
    const names = new Map(this.data.services.map(({ id, name }) => [id, name]));
    const width = this.parts.chart.clientWidth - 36;
    show(this.parts.chart, h("h2", { id: "ends" }, "Keys by when they end"), chart(this.data.expiries, names, Math.max(width, 220)));
  }
}

customElements.get("service-connectors-fleet") ?? customElements.define("service-connectors-fleet", Fleet);
