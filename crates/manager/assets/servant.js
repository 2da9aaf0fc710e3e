// Keeps the page live: fetches its own address every 2 s and swaps <main>. Rests while the page is hidden, while someone
// types or selects, and says so; the focus stays on the link or button that has it.
"use strict";
const live = document.getElementById("live");
let since = Date.now();
function say(text) { if (live.textContent !== text) live.textContent = text; }
function stops(main) { return [...main.querySelectorAll("a, button, input")]; }
async function refresh() {
  if (document.hidden) return;
  if (document.activeElement.matches("main input")) return say("resting while you type");
  if (!getSelection().isCollapsed) return say("resting while text is selected");
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" }, signal: AbortSignal.timeout(10000) });
    // A refusal is a page too: it says what has become of this one.
    if (answer.status >= 500) throw new Error(answer.status);
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("main");
    const main = document.querySelector("main");
    if (document.activeElement.matches("main input")) return;
    const left = [...main.querySelectorAll(".scroll")].map((box) => box.scrollLeft);
    const focus = document.activeElement;
    const mark = (stop) => stop.href || stop.form?.action;
    const had = main.contains(focus) ? mark(focus) : null;
    main.replaceWith(fresh);
    fresh.querySelectorAll(".scroll").forEach((box, at) => { box.scrollLeft = left[at] || 0; });
    if (had) stops(fresh).find((stop) => mark(stop) === had)?.focus({ preventScroll: true });
    since = Date.now();
    say("live");
  } catch {
    say(`no answer for ${Math.round((Date.now() - since) / 1000)} s`);
  }
}
(async () => { for (;;) { await new Promise((done) => setTimeout(done, 2000)); await refresh(); } })();
