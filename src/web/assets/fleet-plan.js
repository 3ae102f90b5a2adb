/* The last recorded plan, as a diff that people read: `+` issue, `~` install, `-` revoke. */

import { h, time } from "./card.js";

export const PLAN_CSS = `
.diff{font-size:.8125rem;border:var(--line);border-radius:calc(var(--radius)*.6);overflow:hidden;margin:12px 0}
.diff li{display:grid;grid-template-columns:1.25rem minmax(8rem,14rem) 1fr;gap:4px 10px;padding:6px 12px;border-bottom:var(--line)}.diff li:last-child{border:0}
.diff li>span:first-child{font:600 .875rem/1.25rem ui-monospace,Menlo,Consolas,monospace;text-align:center}
.diff .whose{font-weight:550}
.diff .add{background:color-mix(in srgb,var(--ok) 7%,var(--surface))}.diff .add>span:first-child{color:var(--ok)}
.diff .del{background:color-mix(in srgb,var(--bad) 7%,var(--surface))}.diff .del>span:first-child{color:var(--bad)}
.diff .mod>span:first-child{color:var(--warn)}.diff .hold{background:color-mix(in srgb,var(--held) 7%,var(--surface))}.diff .hold>span:first-child{color:var(--held)}
.diff p{grid-column:3;color:var(--muted)}
pre{max-height:24rem;overflow:auto;padding:12px;border:var(--line);border-radius:8px;background:var(--sunken);font:.75rem/1.45 ui-monospace,Menlo,Consolas,monospace;overflow-wrap:normal}
h3{font-size:.875rem;font-weight:600;margin:16px 0 0}
@container(max-width:44rem){.diff li{grid-template-columns:1.25rem 1fr}.diff li>:nth-child(n+3){grid-column:2}}
`;

const SIGNS = { add: ["+", "Add"], mod: ["~", "Change"], del: ["-", "Remove"], end: ["·", "Ended"], hold: ["!", "Held"], note: ["·", "Note"] };

function line(kind, whose, what, why) {
  const [sign, word] = SIGNS[kind];
  return h("li", { class: kind }, h("span", { "aria-hidden": "true" }, sign), h("span", { class: "whose" }, h("span", { class: "say" }, `${word}: `), whose),
    h("span", null, what), why ? h("p", null, why) : null);
}

const whose = ({ user, service }) => [user, service].filter(Boolean).join(" · ") || "All";
const key = (token) => (token.fingerprint ? `the key ${token.fingerprint}` : "a key that was never seen");

function slot(service, { before, after }) {
  if (!after) return `-${service}`;
  if (!before) return `+${service}`;
  return after.key === "new" ? `~${service} (new key)` : `~${service}`;
}

const ACTIONS = {
  issue: (one) => line("add", whose(one), `${one.op ? "Asks again for a key" : "Asks for a new key"}, for ${one.ttl_days} days`, one.reason.text),
  install: (one) => {
    const slots = Object.entries(one.slots ?? {}).map(([service, parts]) => slot(service, parts));
    const what = one.leaves ? `Takes our files out of the home of ${one.account}` : `Writes the home of ${one.account}`;
    return line("mod", one.user, `${what}${slots.length ? `: ${slots.join(", ")}` : ""}`, one.reasons.map(({ text }) => text).join("; "));
  },
  revoke: (one) => line("del", whose(one), `Revokes ${key(one)}${one.after_delivery ? ", once the new one is in the home" : ""}`, one.reason.text),
  end: (one) => line("end", whose(one), `Notes the end of ${key(one)}`, one.reason.text),
};

const HELD = { removal: "Stays until approved: we would take it away", expiry: "Stays until approved: its time would end it", stray: "Stays until approved: nobody here knows this key" };

/* How many of all are not in the list: only so many are recorded. */
function more(shown, all) {
  return all > shown ? h("p", { class: "soft" }, `And ${(all - shown).toLocaleString()} more: `, h("code", null, "service-connector plan"), " has them all.") : null;
}

export function plan({ plan: made, at, text: written }) {
  const title = h("h2", { id: "plan" }, "The last plan");
  if (!made) return [title, h("p", { class: "soft" }, "No pass was recorded yet.")];
  const { summary, actions, held, held_why: reasons, notes } = made;
  const all = summary.issue + summary.install + summary.revoke + summary.end;
  const number = (n, word) => n && `${n.toLocaleString()} to ${word}`;
  const words = [number(summary.issue, "issue"), number(summary.install, "install"), number(summary.revoke, "revoke"),
    summary.end && `${summary.end.toLocaleString()} ended`, summary.held && `${summary.held.toLocaleString()} held`].filter(Boolean);
  const list = (label, lines) => h("ul", { class: "diff", role: "list", "aria-label": label }, lines);
  return [
    title,
    h("p", null, "Of ", time(at), `: ${words.join(", ") || "nothing to do"}.`),
    h("p", { class: "soft" }, "Digest ", h("code", null, made.digest)),
    actions.length ? list("What it does", actions.map((one) => ACTIONS[one.kind]?.(one) ?? line("note", whose(one), one.kind))) : null,
    more(actions.length, all),
    held.length ? h("h3", null, "Held") : null,
    held.length ? h("p", { class: "soft" }, reasons.join(" ")) : null,
    held.length ? list("What is held", held.map((one) => line("hold", whose(one), HELD[one.kind] ?? one.kind))) : null,
    more(held.length, summary.held),
    notes.length ? h("h3", null, "Not done, and why") : null,
    notes.length ? list("What is not done", notes.map((note) => line("note", whose(note), note.text, note.until ? ["Not before ", time(note.until)] : null))) : null,
    written ? h("details", null, h("summary", null, "As text"), h("pre", { tabindex: "0", "aria-label": "The plan as text" }, written)) : null,
  ].filter(Boolean);
}
