// Keeps the page live: fetches its own address every 2 s and swaps <main>. Rests while the page is hidden, while someone
// types, selects or has a form open, and says so; the focus stays on the link or button that has it. And the keys: what
// they do is written on the page /keys.
"use strict";
const live = document.getElementById("live");
let since = Date.now();
// The one way from text to a page: what this address itself answers. Browsers that know of it refuse every other.
const trusted = window.trustedTypes?.createPolicy("own-page", { createHTML: (text) => text });
function pageOf(text) { return new DOMParser().parseFromString(trusted ? trusted.createHTML(text) : text, "text/html"); }
function say(text) { if (live.textContent !== text) live.textContent = text; }
function stops(main) { return [...main.querySelectorAll("a, button, input, select, textarea, summary")]; }
function isField(element) { return element.matches("input, select, textarea"); }
// Something in the page that a fresh one would take away.
function rests() {
  // A secret that is shown once, or a form that stands alone.
  if (document.querySelector("main [data-still]")) return "this page stays as it is";
  if (isField(document.activeElement)) return "resting while you type";
  if (!getSelection().isCollapsed) return "resting while text is selected";
  if (document.querySelector("main details[open] form")) return "resting while a form is open";
  return "";
}
async function refresh() {
  if (document.hidden) return;
  if (rests()) return say(rests());
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" }, signal: AbortSignal.timeout(10000) });
    // A refusal is a page too: it says what has become of this one.
    if (answer.status >= 500) throw new Error(answer.status);
    const page = pageOf(await answer.text());
    // A look at an account began or ended: the whole page is another.
    if (page.body.dataset.look !== document.body.dataset.look) return location.reload();
    const fresh = page.querySelector("main");
    const main = document.querySelector("main");
    if (rests()) return;
    const left = [...main.querySelectorAll(".scroll")].map((box) => box.scrollLeft);
    const open = [...main.querySelectorAll("details")].map((box) => box.open);
    const focus = document.activeElement;
    const mark = (stop) => stop.href || stop.form?.action || (stop.matches("summary") ? stop.textContent : null);
    const had = main.contains(focus) ? mark(focus) : null;
    main.replaceWith(fresh);
    fresh.querySelectorAll(".scroll").forEach((box, at) => { box.scrollLeft = left[at] || 0; });
    fresh.querySelectorAll("details").forEach((box, at) => { if (open[at]) box.open = true; });
    if (had) stops(fresh).find((stop) => mark(stop) === had)?.focus({ preventScroll: true });
    since = Date.now();
    say("live");
  } catch {
    say(`no answer for ${Math.round((Date.now() - since) / 1000)} s`);
  }
}
function step(by) {
  const rows = [...document.querySelectorAll("main tbody tr")].map((row) => row.querySelector("a")).filter(Boolean);
  if (rows.length === 0) return;
  const at = rows.findIndex((link) => link.closest("tr").contains(document.activeElement));
  const to = at < 0 ? (by > 0 ? 0 : rows.length - 1) : Math.min(Math.max(at + by, 0), rows.length - 1);
  rows[to].focus();
}
let isGoing = false;
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  const at = document.activeElement;
  if (event.key === "Escape") {
    at.closest("details[open]")?.removeAttribute("open");
    return at.blur();
  }
  if (isField(at)) return;
  const wasGoing = isGoing;
  isGoing = false;
  if (wasGoing) {
    const link = document.querySelector(`#pages a[data-key="${CSS.escape(event.key)}"]`);
    if (link) location.href = link.href;
    return;
  }
  const keys = {
    "/": () => document.querySelector("main input[type=search], header input[type=search]").focus(),
    j: () => step(1),
    k: () => step(-1),
    n: () => document.querySelector("main a[rel=next]")?.click(),
    g: () => { isGoing = true; },
    "?": () => { location.href = "/keys"; },
  };
  if (!keys[event.key]) return;
  event.preventDefault();
  keys[event.key]();
});
// A second click does nothing again. What is sent may be sent anew once it was answered, or after a while.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.method !== "post") return;
  if (form.dataset.sent) return event.preventDefault();
  form.dataset.sent = "yes";
  setTimeout(() => form.removeAttribute("data-sent"), 5000);
});
addEventListener("pageshow", () => document.querySelectorAll("form[data-sent]").forEach((form) => form.removeAttribute("data-sent")));
function countdown() {
  const box = document.querySelector("[data-ends]");
  if (!box) return;
  const left = Math.max(0, Math.floor((Date.parse(box.dataset.ends) - Date.now()) / 1000));
  box.textContent = `(${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")} left)`;
}
countdown();
setInterval(countdown, 1000);
(async () => { for (;;) { await new Promise((done) => setTimeout(done, 2000)); await refresh(); } })();
