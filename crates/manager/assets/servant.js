// Keeps the page live: fetches its own address every 2 s and swaps <main>. Rests while hidden or while someone types.
"use strict";
const live = document.getElementById("live");
let since = Date.now();
async function refresh() {
  const main = document.querySelector("main");
  const busy = main.contains(document.activeElement) || !getSelection().isCollapsed;
  if (document.hidden || busy) return;
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" }, signal: AbortSignal.timeout(10000) });
    if (!answer.ok) throw new Error(answer.status);
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("main");
    const left = [...main.querySelectorAll(".scroll")].map((box) => box.scrollLeft);
    main.replaceWith(fresh);
    fresh.querySelectorAll(".scroll").forEach((box, at) => { box.scrollLeft = left[at] || 0; });
    since = Date.now();
    live.textContent = "live";
  } catch {
    live.textContent = `no answer for ${Math.round((Date.now() - since) / 1000)} s`;
  }
}
(async () => { for (;;) { await new Promise((done) => setTimeout(done, 2000)); await refresh(); } })();
