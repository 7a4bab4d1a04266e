"use strict";
// The page reads and filters by status without this; it adds the search, counts, and a theme that is remembered.
(() => {
  const remembered = "refute-report-theme";
  const store = (work) => { try { return work(window.localStorage); } catch { return null; } };
  const radios = document.querySelectorAll('input[name="theme"]');
  const wanted = store((kept) => kept.getItem(remembered));
  for (const radio of radios) {
    radio.checked = wanted ? radio.value === wanted : radio.checked;
    radio.addEventListener("change", () => store((kept) => kept.setItem(remembered, radio.value)));
  }

  const search = document.getElementById("search");
  if (!search) return;
  const told = document.getElementById("told");
  const items = [...document.querySelectorAll(".item")];
  const claims = items.filter((item) => item.classList.contains("claim"));
  const boxes = [...document.querySelectorAll("input[data-status]")];
  for (const hidden of document.querySelectorAll(".scripted")) hidden.hidden = false;

  const apply = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const off = new Set(boxes.filter((box) => !box.checked).map((box) => box.dataset.status));
    for (const item of items) item.hidden = !words.every((word) => item.dataset.words.includes(word));
    const shown = (item) => !item.hidden && !off.has(item.dataset.status);
    for (const group of document.querySelectorAll(".group")) {
      group.hidden = ![...group.querySelectorAll(".item")].some(shown);
    }
    told.textContent = `${claims.filter(shown).length} of ${claims.length} claims shown`;
  };
  search.addEventListener("input", apply);
  for (const box of boxes) box.addEventListener("change", apply);
  document.getElementById("filter").addEventListener("submit", (event) => event.preventDefault());
  document.getElementById("unfold").addEventListener("click", () => {
    for (const details of document.querySelectorAll(".claim details")) details.open = true;
  });
  document.getElementById("fold").addEventListener("click", () => {
    for (const details of document.querySelectorAll(".claim details")) details.open = false;
  });
  document.addEventListener("keydown", (event) => {
    const typing = event.target instanceof HTMLElement && event.target.matches("input, textarea, select");
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      search.focus();
    }
  });
  // A link to a claim that is filtered away shows it again.
  window.addEventListener("hashchange", () => {
    const aim = document.getElementById(decodeURIComponent(window.location.hash.slice(1)));
    const item = aim?.closest(".item");
    if (!item || item.offsetParent !== null) return;
    search.value = "";
    for (const box of boxes) box.checked = true;
    apply();
    aim.scrollIntoView();
  });
  window.addEventListener("beforeprint", () => document.getElementById("unfold").click());
  apply();
})();
