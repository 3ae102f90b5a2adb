/* <service-connectors>: a person's connections to services, live, on any page.
 *
 *   <script type="module" src="/service-connectors/card.js"></script>
 *   <service-connectors></service-connectors>
 *
 * Attributes:  api="/api/service-connectors"   where the API is, on the page's own origin
 *              heading="Your services"          empty: none is shown
 *              theme="light|dark|auto"          auto: as the system; without it: the page's `color-scheme`
 * Event:       `service-connectors-change`; `detail` is what the API said
 *
 * Looks: set these on the element, or on anything around it; the font is the page's.
 *   --sc-accent, --sc-on-accent    the main button, links, focus; the text on the button
 *   --sc-surface, --sc-sunken      the cards, and what lies deeper
 *   --sc-text, --sc-muted          text, and text that steps back
 *   --sc-border, --sc-shadow, --sc-radius, --sc-gap
 *   --sc-ok, --sc-info, --sc-warn, --sc-bad, --sc-held    the states' colours
 *   --sc-card-min                  a card is at least so wide (17.5rem)
 */

/* Of each state: the tone, the badge, and what is said where the API says nothing. */
export const STATES = {
	not_connected: ["idle", "Not connected", "Connect it, and your agent can use it."],
	connecting: ["busy", "Connecting", "Asking for a key. This takes a few seconds."],
	connected: ["ok", "Connected", ""],
	renewing: ["ok busy", "Renewing", "A new key is on its way. The present one works."],
	expiring_soon: ["warn", "Expiring soon", "The key ends soon, and is not being renewed."],
	expired: ["bad", "Expired", "Connect again to get a new key."],
	failed: ["bad", "Failed", "No key was given."],
	service_down: ["warn", "Service down", "The service does not answer."],
	not_allowed: ["idle", "Not available", "Ask an admin for access."],
	held: ["held", "Waits for an admin", "Until an admin approves, all stays as it is."],
	disconnecting: ["busy", "Disconnecting", "The key is being taken back."],
	blocked: ["bad", "Needs an admin", "An admin has to mend something first."],
};
const PASSING = /^(connecting|disconnecting|renewing)$/;
const SYNC = "sh sync_service_env.sh";
const DAY = 86400e3;

/* An element: its class, properties or attributes, and children. Text stays text. */
export function h(tag, props, ...children) {
	const el = document.createElement(tag);
	for (const [name, value] of Object.entries(props ?? {})) {
		if (name === "class") el.className = value;
		else if (name.startsWith("on")) el.addEventListener(name.slice(2), value);
		else if (typeof value === "boolean") el.toggleAttribute(name, value);
		else if (value != null) el.setAttribute(name, value);
	}
	el.append(...children.flat().filter((child) => child != null && child !== false));
	return el;
}

/* Only what differs is touched: whoever reads or selects it is not disturbed. */
export function text(el, value) {
	if (el.textContent !== value) el.textContent = value;
}

/* The same for what is below an element. */
export function fill(el, ...nodes) {
	const fresh = el.cloneNode();
	fresh.append(...nodes.flat());
	if (!el.isEqualNode(fresh)) el.replaceChildren(...fresh.childNodes);
}

export function time(value, form) {
	const date = new Date(value);
	const today = date.toDateString() === new Date().toDateString();
	const style = form ?? { [today ? "timeStyle" : "dateStyle"]: today ? "short" : "medium" };
	return h("time", { datetime: value, title: date.toLocaleString() }, date.toLocaleString([], style));
}

const list = (words) => words.join(", ").replace(/, ([^,]*)$/, " and $1");

/* A failure that can be told to the person; after `wait` seconds it may be tried again. */
const trouble = (status, message, wait = 0) => Object.assign(new Error(message), { status, wait });

export async function ask(url, body) {
	let answer;
	let data;
	try {
		answer = await fetch(url, {
			method: body ? "POST" : "GET",
			headers: body && { "content-type": "application/json" },
			body: body && JSON.stringify(body),
			signal: AbortSignal.timeout(30000),
		});
		data = await answer.json().catch(() => null);
	} catch {
		throw trouble(0, "No answer from the portal. Check your network, then try again.");
	}
	if (answer.ok && data) return data;
	const { status, headers } = answer;
	const wait = status === 429 && Math.min(Number(headers.get("retry-after")) || 5, 120);
	const said = {
		401: "Your session is over. Sign in again.",
		412: "This was changed elsewhere in the meantime. You see the newest state now; try again.",
		429: `Too many clicks. Wait ${wait} seconds, then try again.`,
	};
	const other = data?.detail || data?.error || `The portal could not do this (${status}). Try again in a moment.`;
	throw trouble(status, said[status] ?? other, wait || 0);
}

export const BASE_CSS = `
:host{display:block;container-type:inline-size;line-height:1.45;text-align:start;overflow-wrap:anywhere;--line:1px solid var(--border);
--accent:var(--sc-accent,light-dark(#3b4fd8,#9fb0ff));--on-accent:var(--sc-on-accent,light-dark(#fff,#11162e));
--surface:var(--sc-surface,light-dark(#fff,#17191e));--sunken:var(--sc-sunken,light-dark(#f5f6f8,#101216));
--text:var(--sc-text,light-dark(#14171f,#eceef2));--muted:var(--sc-muted,light-dark(#59606e,#a0a7b4));
--border:var(--sc-border,light-dark(#e3e5ea,#2a2e36));--radius:var(--sc-radius,14px);
--shadow:var(--sc-shadow,0 1px 2px light-dark(#14171f0d,#0006));
--ok:var(--sc-ok,light-dark(#0a7240,#56d397));--info:var(--sc-info,light-dark(#2f53c9,#94aefc));
--warn:var(--sc-warn,light-dark(#8f5000,#f2b65a));--bad:var(--sc-bad,light-dark(#b3261e,#ff9d94));
--held:var(--sc-held,light-dark(#7438b8,#c9a3ff));color:var(--text)}
:host([hidden]),[hidden]{display:none!important}
:host([theme=light]){color-scheme:light}:host([theme=dark]){color-scheme:dark}:host([theme=auto]){color-scheme:light dark}
*{box-sizing:border-box}h2,h3,p,ul,ol,pre{margin:0;padding:0;font-size:inherit}ul{list-style:none}
h2{font-size:1.125rem;font-weight:650}
a{color:var(--accent);text-underline-offset:2px}
:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
code{font:.8125rem/1.25rem ui-monospace,Menlo,Consolas,"Liberation Mono",monospace;padding:2px 7px;border:var(--line);border-radius:6px;background:var(--sunken)}
button{font:inherit;font-size:.875rem;font-weight:550;line-height:1.25rem;min-height:36px;padding:7px 14px;
border:var(--line);border-radius:calc(var(--radius)*.6);background:var(--surface);color:var(--text);cursor:pointer;
transition:background-color .15s,border-color .15s,opacity .15s}
button:hover{border-color:color-mix(in srgb,var(--text) 30%,var(--border))}
button.main{background:var(--accent);color:var(--on-accent);border-color:transparent}
.main:hover,.danger:hover{filter:brightness(1.1)}
button.danger{background:var(--bad);color:light-dark(#fff,#2c0805);border-color:transparent}
button.quiet{border-color:transparent;background:none;color:var(--muted);padding-inline:8px;font-weight:450}
button.quiet:hover{color:var(--text);background:var(--sunken)}
button[aria-disabled=true]{opacity:.55;cursor:default}
.badge{--tone:var(--muted);display:inline-flex;align-items:center;gap:7px;white-space:nowrap;font-size:.75rem;font-weight:600;line-height:1.125rem;
padding:2px 9px 2px 8px;border-radius:99px;color:var(--tone);background:color-mix(in srgb,var(--tone) 10%,var(--surface))}
.badge::before{content:"";width:7px;height:7px;border-radius:50%;background:currentColor;flex:none}
.idle::before{background:none;box-shadow:inset 0 0 0 1.5px currentColor}
.busy{--tone:var(--info)}.warn{--tone:var(--warn)}.bad{--tone:var(--bad)}.held{--tone:var(--held)}.ok{--tone:var(--ok)}
.busy::before{animation:pulse 1.2s ease-in-out infinite}
@keyframes pulse{50%{opacity:.25}}
dialog{width:min(30rem,calc(100vw - 2rem));max-height:calc(100dvh - 32px);padding:24px;border:var(--line);border-radius:calc(var(--radius)*1.15);
background:var(--surface);color:var(--text);box-shadow:0 24px 64px #0004;font-size:.9375rem;overflow:auto}
dialog::backdrop{background:light-dark(#14171f66,#0009)}
dialog[open]{animation:rise .18s ease-out}
@keyframes rise{from{opacity:0;transform:translateY(8px) scale(.985)}}
dialog h2{margin-bottom:12px}dialog p,dialog ul,dialog ol{margin-bottom:12px}dialog ol{padding-inline-start:20px}dialog li{margin-bottom:6px}
.acts{display:flex;flex-wrap:wrap;gap:8px}dialog .acts{justify-content:flex-end;margin-top:20px}
.say{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
.banner{display:flex;flex-wrap:wrap;gap:4px 12px;align-items:center;margin-bottom:16px;padding:12px 16px;border-radius:var(--radius);font-size:.875rem;
border:1px solid color-mix(in srgb,var(--warn) 35%,var(--border));background:color-mix(in srgb,var(--warn) 8%,var(--surface))}
@media(prefers-reduced-motion:reduce){*,::before,::after,::backdrop{animation:none!important;transition:none!important}}
@media(forced-colors:active){.badge,button{border:1px solid}.badge::before{background:CanvasText}}
`;

const CSS = `
header{display:flex;flex-wrap:wrap;align-items:baseline;gap:4px 16px;margin-bottom:16px;min-height:1.625rem}
header p{font-size:.8125rem;color:var(--muted)}.live{margin-inline-start:auto}
.live::before{content:"";display:inline-block;width:7px;height:7px;margin-inline-end:7px;border-radius:50%;background:var(--ok)}
.live.off::before{background:var(--warn)}
.grid{display:grid;gap:var(--sc-gap,16px);grid-template-columns:repeat(auto-fill,minmax(min(100%,var(--sc-card-min,280px)),1fr))}
.card{position:relative;display:flex;flex-direction:column;min-width:0;padding:18px;overflow:hidden;border:var(--line);border-radius:var(--radius);
background:var(--surface);box-shadow:var(--shadow)}
.card.moving::after{content:"";position:absolute;inset:0 0 auto;height:2px;background:linear-gradient(90deg,transparent,var(--info),transparent);animation:move 1.4s ease-in-out infinite}
@keyframes move{from{transform:translateX(-100%)}to{transform:translateX(100%)}}
.top{display:flex;align-items:center;gap:12px}.top>div{min-width:0}
.icon{--ink:oklch(from var(--accent) l c var(--hue,270));display:grid;place-items:center;flex:none;width:44px;height:44px;border-radius:calc(var(--radius)*.75);overflow:hidden;
color:color-mix(in srgb,var(--ink) 70%,var(--text));background:color-mix(in srgb,var(--ink) 11%,var(--surface));font-weight:650;font-size:.9375rem}
.icon img,.icon i{width:26px;height:26px;object-fit:contain}
.icon i{background:currentColor;mask:center/contain no-repeat}
h3{font-size:1rem;font-weight:620;line-height:1.35;margin-bottom:3px}
.about{margin:12px 0 14px;font-size:.875rem;color:var(--muted);min-height:2lh}
.facts{flex:1;font-size:.8125rem;min-height:calc(4lh + .5625rem);margin-bottom:14px;padding-top:12px;border-top:var(--line);box-sizing:content-box}
.facts p+p{margin-top:3px}.soft{color:var(--muted)}strong{font-weight:620}
p.bad{color:var(--bad)}.yes{color:var(--ok)}p.todo{color:var(--info)}
.mark::before{content:"✓";display:inline-block;width:18px;font-weight:700}.todo.mark::before{content:"→"}
.card .acts{min-height:2.25rem}.card .quiet{margin-inline-start:auto}
.sync{display:grid;grid-template-columns:1fr auto;align-items:center;gap:12px 24px;margin-bottom:var(--sc-gap,16px);padding:14px 18px;
border:var(--line);border-radius:var(--radius);background:var(--sunken)}
.sync.todo{border-color:color-mix(in srgb,var(--info) 45%,var(--border));background:color-mix(in srgb,var(--info) 7%,var(--surface))}
.sync strong{display:block;color:var(--text);font-size:.875rem}.sync .words{font-size:.8125rem;color:var(--muted);min-height:2.75rem}
.run{display:flex;align-items:center;gap:8px;flex-wrap:wrap}
.run code{padding:7px 12px;border-radius:calc(var(--radius)*.6);background:var(--surface)}
.run button{min-width:76px}.run a{font-size:.8125rem;padding:8px 4px}
.names{display:flex;flex-wrap:wrap;gap:6px}
.ghost{min-height:14.75rem;animation:pulse 1.6s ease-in-out infinite;background:var(--sunken);box-shadow:none}
.none{padding:32px 16px;text-align:center;color:var(--muted);font-size:.875rem}
@container(max-width:672px){.sync{grid-template-columns:1fr}.sync .words{min-height:0}.sync .words p{min-height:2lh}}
@container(max-width:384px){.card{padding:16px}.top{align-items:flex-start}.icon{width:36px;height:36px}.facts{min-height:calc(5lh + .5625rem)}.about{min-height:0}.acts{gap:6px}.acts button{padding-inline:11px}.acts .quiet{padding-inline:4px}}
`;

export function sheets(...texts) {
	return texts.map((css) => {
		const sheet = new CSSStyleSheet();
		sheet.replaceSync(css);
		return sheet;
	});
}

/* A button whose clicks are left alone while it is off; it can still be reached, so that nobody's
 * focus is lost. */
export function button(label, kind, click) {
	return h("button", {
		type: "button",
		class: kind,
		onclick: (event) => event.currentTarget.ariaDisabled !== "true" && click(event),
	}, label);
}

/* One question at a time. `choices`: label, class, what it does. */
export function openDialog(root, title, body, choices) {
	const heading = h("h2", { id: "ask" }, title);
	const acts = h("div", { class: "acts" }, choices.map(([label, kind, act]) =>
		button(label, kind, () => {
			dialog.close();
			act?.();
		})));
	const dialog = h("dialog", { closedby: "any", "aria-labelledby": "ask", "aria-describedby": "why" }, heading,
		h("div", { id: "why" }, body), acts);
	dialog.addEventListener("close", () => dialog.remove());
	root.append(dialog);
	dialog.showModal();
	return dialog;
}

/* The icon, in the card's colours if it is drawn in `currentColor`; initials if there is none. */
function icon(service) {
	const initials = (service.name.match(/[\p{L}\p{N}]+/gu) ?? []).map((word) => word[0]).slice(0, 2).join("").toUpperCase();
	const el = h("span", { class: "icon", "aria-hidden": "true" }, initials);
	const hue = [...service.id].reduce((sum, letter) => (sum * 33 + letter.charCodeAt(0) * 47) % 360, 0);
	el.style.setProperty("--hue", hue);
	if (!service.icon) return el;
	const image = h("img", { alt: "" });
	image.addEventListener("load", async () => {
		el.replaceChildren(image);
		const drawing = await fetch(image.src).then((answer) => answer.text(), () => "");
		if (!drawing.includes("currentColor")) return;
		const mask = h("i");
		mask.style.maskImage = `url(${JSON.stringify(image.src)})`;
		el.replaceChildren(mask);
	});
	image.src = service.icon;
	return el;
}

class ServiceConnectors extends HTMLElement {
	static observedAttributes = ["api", "heading"];
	/* Of each service: its elements, and `call`, the state that is shown while a call is under way;
	 * `error`, what went wrong with the last click; `wait`, no click before this time. */
	#views = new Map();
	#said = [];
	#failures = 0;
	#seen = 0; // events of the present stream

	constructor() {
		super();
		const root = this.attachShadow({ mode: "open" });
		root.adoptedStyleSheets = sheets(BASE_CSS, CSS);
		this.title_ = h("h2", { id: "title", tabindex: "-1" });
		this.count = h("p");
		this.live = h("p", { class: "live off", role: "status" }, "Loading…");
		this.banner = h("div", { class: "banner", role: "status", hidden: true });
		this.words = h("div", { class: "words" });
		this.copy = button("Copy", "", () => this.#copy());
		this.copy.ariaLabel = "Copy the command";
		this.command = h("code", null, SYNC);
		this.script = h("a", { download: "sync_service_env.sh" }, "Get the script");
		this.sync = h("div", { class: "sync", role: "group", "aria-label": "Your laptop" }, this.words,
			h("div", { class: "run" }, this.command, this.copy, this.script));
		this.grid = h("ul", { class: "grid", role: "list", "aria-labelledby": "title" },
			[1, 2, 3].map(() => h("li", { class: "card ghost", "aria-hidden": "true" })));
		this.say = h("div", { class: "say", "aria-live": "polite", role: "log" });
		this.section = h("section", { lang: "en", "aria-labelledby": "title", "aria-busy": "true" },
			h("header", null, this.title_, this.count, this.live), this.banner, this.sync, this.grid, this.say);
		root.append(this.section);
	}

	get api() {
		return (this.getAttribute("api") || "/api/service-connectors").replace(/\/+$/, "");
	}

	connectedCallback() {
		const signal = (this.stop = new AbortController()).signal;
		document.addEventListener("visibilitychange", () => this.#start(), { signal });
		for (const name of ["online", "offline"]) addEventListener(name, () => this.#start(), { signal });
		this.#title();
		this.#start();
	}

	disconnectedCallback() {
		this.stop?.abort();
		this.#end();
	}

	attributeChangedCallback(name, before) {
		if (name === "heading") this.#title();
		else if (before !== null && this.isConnected) this.#start();
	}

	#title() {
		const title = this.getAttribute("heading");
		text(this.title_, title || "Your services");
		this.title_.classList.toggle("say", title === "");
	}

	/* ---- a stream of events, and asking now and then where there is none ---- */

	#end() {
		clearTimeout(this.timer);
		this.stream?.close();
		this.stream = null;
	}

	#start() {
		this.#end();
		if (document.hidden || this.over) return; // a tab in the background holds no connection
		this.#listen();
		this.#load();
	}

	#listen() {
		this.#seen = 0;
		const stream = (this.stream = new EventSource(`${this.api}/events`));
		stream.addEventListener("card", (event) => {
			this.#seen += 1;
			this.#failures = 0;
			this.#take(JSON.parse(event.data));
			this.#status();
		});
		stream.addEventListener("error", () => {
			if (stream !== this.stream || !this.#seen) return;
			this.#seen = 0;
			this.#load();
		});
	}

	async #load() {
		clearTimeout(this.timer);
		try {
			this.#take(await ask(this.api));
			this.#failures = 0;
			if (this.stream?.readyState === EventSource.CLOSED) this.#listen();
		} catch (trouble) {
			this.#failures += 1;
			this.#trouble(trouble);
		}
		this.#status();
		if (!this.stop || this.stop.signal.aborted || document.hidden || this.over) return;
		const passing = this.data?.services.some((service) => PASSING.test(service.state));
		let wait = this.#seen ? 60 : this.#failures ? Math.min(2 ** this.#failures, 30) : passing ? 2 : 10;
		wait *= 800 + 400 * Math.random(); // not everybody at once when a portal comes back
		clearTimeout(this.timer);
		this.timer = setTimeout(() => this.#load(), wait);
	}

	#status() {
		const lost = this.#failures > 0;
		this.live.classList.toggle("off", lost || !this.data);
		text(this.live, this.over ? "Signed out" : !navigator.onLine ? "You are offline" : lost ? "Reconnecting…" : "Up to date");
	}

	#trouble({ status, message }) {
		if (status === 401) {
			this.over = true;
			this.#end();
		}
		// What was shown stays; a short break is told beside the heading only.
		if (this.over || status === 403 || !this.data) this.#notice(message, this.over && h("a", { href: location.href }, "Reload"));
	}

	#notice(message, link) {
		this.banner.hidden = !message;
		fill(this.banner, message ?? "", link || "");
	}

	#take(data) {
		if (!Array.isArray(data?.services)) return;
		if (this.data && Date.parse(data.at) < Date.parse(this.data.at)) return; // overtaken on its way
		const before = this.data;
		this.data = data;
		const closed = data.user?.disabled && "Your access was closed. Ask an admin if that is wrong.";
		this.#notice(data.notice || closed || "");
		for (const service of data.services) {
			const old = before?.services.find(({ id }) => id === service.id);
			const view = this.#views.get(service.id);
			if (before && !view?.call) this.#tell(old, service);
			if (old && old.state !== service.state) view.error = "";
		}
		this.#render();
		this.dispatchEvent(new CustomEvent("service-connectors-change", { detail: data }));
	}

	/* ---- what is said aloud ---- */

	#tell(old, service) {
		const { name, state, message } = service;
		if (old?.state !== state) {
			const end = service.connected && service.expires_at;
			this.#speak(`${name}: ${STATES[state]?.[1] ?? state}${end ? ` until ${time(end).textContent}` : ""}. ${message ?? ""}`);
		} else if (!old.laptops && service.laptops) this.#speak(`${name}: it is on your laptop now.`);
	}

	#speak(words) {
		this.#said.push(words);
		clearTimeout(this.speaking);
		this.speaking = setTimeout(() => {
			this.say.append(...this.#said.splice(0).map((line) => h("p", null, line)));
			while (this.say.childElementCount > 6) this.say.firstChild.remove();
		}, 150);
	}

	async #copy() {
		try {
			await navigator.clipboard.writeText(SYNC);
			text(this.copy, "Copied");
			this.#speak("Copied.");
			setTimeout(() => text(this.copy, "Copy"), 2000);
		} catch {
			getSelection().selectAllChildren(this.command);
			this.#speak("Selected: press Control and C to copy.");
		}
	}

	/* ---- clicks ---- */

	async #call({ id, name }, action, body, shown) {
		const view = this.#views.get(id);
		if (view.call || view.wait > Date.now()) return;
		view.error = "";
		view.call = shown;
		this.#speak(`${name}: ${STATES[shown][1]}…`);
		this.#render();
		const before = this.data;
		try {
			const answer = await ask(`${this.api}/${action}`, { service_id: id, ...body });
			const known = this.data !== before && this.data.revision === answer.revision;
			if (answer.service && !known) {
				this.data = { ...this.data, services: this.data.services.map((one) => (one.id === id ? answer.service : one)) };
			}
		} catch (failure) {
			view.error = failure.message;
			this.#speak(`${name}: ${failure.message}`);
			if (failure.wait) {
				view.wait = Date.now() + failure.wait * 1000;
				setTimeout(() => this.#render(), failure.wait * 1000 + 50);
			}
			if (failure.status === 401) this.#trouble(failure);
		}
		view.call = null;
		const now = this.data.services.find((one) => one.id === id);
		if (now && !view.error && now.state !== shown) this.#tell({}, now);
		this.#render();
		if (!this.over) this.#load(); // the whole truth, whatever crossed on its way
	}

	#ask(id, needs, title, body, choices) {
		const from = this.shadowRoot.activeElement;
		const dialog = openDialog(this.section, title, body, choices);
		Object.assign(dialog, { of: id, needs });
		dialog.addEventListener("close", () => from && !from.isConnected && this.title_.focus());
	}

	#disconnect(service) {
		const { id, name, variables = [], skill } = service;
		const gone = [...variables, skill].filter(Boolean);
		this.#ask(id, "disconnect", `Disconnect ${name}?`, [
			h("p", null, `Your agent can no longer use ${name}. The key dies at once, and with the next sync these leave your laptop:`),
			h("ul", { class: "names", role: "list" }, gone.map((word) => h("li", null, h("code", null, word)))),
			h("p", null, "You can connect it again at any time."),
		], [
			["Cancel", ""],
			["Disconnect", "danger", () => this.#call(service, "disconnect", {}, "disconnecting")],
		]);
	}

	#leaked(service) {
		const { id, name } = service;
		this.#ask(id, "rotate", `Did your ${name} key leak?`, [
			h("p", null, "If somebody else may have seen it, replace it:"),
			h("ol", null,
				h("li", null, "The old key dies at once, everywhere."),
				h("li", null, "A new key is asked for in the same moment."),
				h("li", null, "It reaches your laptop with the next sync, ", h("code", null, SYNC), `. Until then your agent cannot use ${name}.`)),
		], [
			["Cancel", ""],
			["Replace it now", "danger", () => this.#call(service, "rotate", { leaked: true }, "connecting")],
		]);
	}

	/* What can be done: the button's words, its name, its class, what it does. */
	#actions(service) {
		const { name, can = [], state } = service;
		const may = (word) => can.includes(word);
		const call = (action, body, shown) => () => this.#call(service, action, body, shown);
		const again = may("retry") ? "Try again" : may("connect") && "Connect";
		const acts = [];
		if (again) acts.push([again, `${again} ${name}`, "main", call("connect", {}, "connecting")]);
		if (state === "expiring_soon" && may("rotate")) {
			acts.push(["Renew", `Renew ${name}`, "main", call("rotate", { leaked: false }, "renewing")]);
		}
		if (may("disconnect")) acts.push(["Disconnect", `Disconnect ${name}`, "", () => this.#disconnect(service)]);
		if (may("rotate")) acts[2] = ["Key leaked?", `My ${name} key leaked`, "quiet", () => this.#leaked(service)];
		return acts;
	}

	/* ---- what is seen ---- */

	#render() {
		if (!this.data) return;
		const { services, page = "" } = this.data;
		this.section.ariaBusy = "false";
		text(this.count, services.length ? `${services.filter((service) => service.connected).length} of ${services.length} connected` : "");
		this.script.href = `${page}/sync_service_env.sh`;
		this.#laptop(services);
		const items = services.map((service) => {
			const view = this.#views.get(service.id) ?? this.#view(service);
			this.#card(view, service);
			return view.item;
		});
		if (!items.length) items.push((this.none ??= h("li", { class: "none" }, "There are no services yet.")));
		const place = this.shadowRoot.activeElement;
		if (items.length !== this.grid.children.length || items.some((item, n) => item !== this.grid.children[n])) {
			this.grid.replaceChildren(...items);
			if (place && place !== this.shadowRoot.activeElement) (place.isConnected ? place : this.title_).focus();
		}
		const dialog = this.shadowRoot.querySelector("dialog");
		const about = services.find(({ id }) => id === dialog?.of);
		if (dialog && !about?.can?.includes(dialog.needs)) dialog.close(); // done elsewhere
	}

	#laptop(services) {
		const held = services.filter((service) => service.connected && service.generation != null);
		const missing = held.filter((service) => !service.laptops).map((service) => service.name);
		const laptops = this.data.laptops ?? [];
		const stale = laptops.every((laptop) => !laptop.current);
		const last = laptops.map((laptop) => laptop.at).sort().at(-1);
		this.sync.classList.toggle("todo", missing.length > 0);
		const say = (title, ...words) => fill(this.words, h("strong", null, title), h("p", null, ...words));
		if (missing.length) say("One thing left: sync your laptop", `Run this there, and it has the key of ${list(missing)}.`);
		else if (last && stale) say("Your laptop has an older set", "Last synced ", time(last), ". Run this there once more.");
		else if (last && held.length) say("Your laptop is up to date", "Last synced ", time(last), ". Run this there after each change.");
		else say("Your laptop", "Connect a service; then run this on your laptop, and the key is there.");
	}

	#view(service) {
		const title = `s-${service.id}`;
		const view = {
			name: h("h3", { id: title, tabindex: "-1" }),
			badge: h("span", { class: "badge" }),
			about: h("p", { class: "about" }),
			facts: h("div", { class: "facts" }),
			buttons: [0, 1, 2].map((n) => button("", "", () => view.acts[n]?.[3]())),
		};
		view.top = h("div", { class: "top" }, h("div", null, view.name, view.badge));
		view.item = h("li", { class: "card", "data-service": service.id, "aria-labelledby": title }, view.top, view.about,
			view.facts, h("div", { class: "acts" }, view.buttons));
		this.#views.set(service.id, view);
		return view;
	}

	#card(view, service) {
		const { call } = view;
		const state = call ?? service.state;
		const [tone, label] = STATES[state] ?? ["idle", state];
		const drawn = `${service.icon}|${service.name}`;
		if (view.drawn !== drawn) {
			view.drawn = drawn;
			view.top.replaceChildren(icon(service), view.top.lastChild);
		}
		text(view.name, service.name);
		text(view.about, service.description ?? "");
		text(view.badge, label);
		view.badge.className = `badge ${tone}`;
		view.item.classList.toggle("moving", Boolean(call) || PASSING.test(state));
		this.#facts(view, service);
		this.#buttons(view, service);
	}

	#facts({ facts, call, error }, service) {
		const state = call ?? service.state;
		const { connected, expires_at: ends, old_key_until: old, retry_at: retry, generation, laptops } = service;
		const at = (this.data.laptops ?? []).filter((laptop) => laptop.generation >= generation).map((laptop) => laptop.at).sort()[0];
		const days = ends && Math.floor((Date.parse(ends) - Date.now()) / DAY);
		const lines = [];
		const line = (kind, ...words) => lines.push(h("p", { class: kind }, ...words));
		const quiet = connected && /^(connected|service_down)$/.test(state);
		const message = (!call && service.message) || (!quiet && STATES[state]?.[2]);
		if (error && !call) line("bad", error);
		if (connected && ends && call !== "disconnecting") {
			const left = days < 0 ? "" : days < 1 ? " · less than a day left" : ` · ${days} day${days === 1 ? "" : "s"} left`;
			line("", "Works until ", h("strong", null, time(ends, { dateStyle: "medium" })), left);
		} else if (state === "expired" && ends) line("", "Ended ", time(ends));
		if (message && !(error && state === "not_connected")) line(STATES[state]?.[0] === "bad" ? "" : "soft", message);
		if (!call) {
			if (state === "not_connected" && service.ttl_days) line("soft", `Keys last ${service.ttl_days} days and renew themselves.`);
			if (retry && !connected) line("soft", "Tried again at ", time(retry), ".");
			if (connected && generation != null && state !== "disconnecting") {
				if (!laptops) line("todo mark", "One thing left: sync your laptop");
				else line("yes mark", "On your laptop", ...(at ? [" since ", time(at)] : []));
			}
			if (old && connected) line("soft", "The former key works until ", time(old), ".");
		}
		fill(facts, lines);
	}

	#buttons(view, service) {
		view.acts = this.#actions(service);
		const off = Boolean(view.call || this.over) || view.wait > Date.now();
		const focused = this.shadowRoot.activeElement;
		view.buttons.forEach((el, n) => {
			const [label, name, kind] = view.acts[n] ?? [el.textContent, el.ariaLabel, el.className];
			text(el, label);
			el.ariaLabel = name;
			el.className = kind;
			el.ariaDisabled = String(off);
			el.hidden = !view.acts[n];
		});
		if (focused?.hidden || focused === view.name) (view.buttons.find((el) => !el.hidden) ?? view.name).focus();
	}
}

customElements.get("service-connectors") ?? customElements.define("service-connectors", ServiceConnectors);
