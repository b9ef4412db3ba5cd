"use strict";
(() => {
  const button = document.getElementById("theme");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const kept = { // a page opened from a file may have no storage
    get() { try { return localStorage.getItem("fqbench-theme"); } catch { return null; } },
    set(value) { try { localStorage.setItem("fqbench-theme", value); } catch { /* not kept */ } },
  };
  const now = () => document.documentElement.dataset.theme || (dark.matches ? "dark" : "light");
  const label = () => { button.textContent = now() === "dark" ? "☀ Light" : "☾ Dark"; };
  if (["dark", "light"].includes(kept.get())) document.documentElement.dataset.theme = kept.get();
  button.hidden = false;
  button.addEventListener("click", () => {
    const next = now() === "dark" ? "light" : "dark";
    document.documentElement.dataset.theme = next;
    kept.set(next);
    label();
  });
  dark.addEventListener("change", label);
  label();

  // What a link leads to may be folded.
  const unfold = () => {
    let target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (; target; target = target.parentElement) if (target.tagName === "DETAILS") target.open = true;
  };
  addEventListener("hashchange", unfold);
  unfold();
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details.part:not([open])")];
    for (const one of folded) one.open = true;
  });
  addEventListener("afterprint", () => { for (const one of folded) one.open = false; });
})();
