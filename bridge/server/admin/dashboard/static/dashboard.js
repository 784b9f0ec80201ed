// What the dashboard does besides: it keeps a page fresh, shows tooltips at once, and lights up what
// corresponds. Without it, everything can be read and done.
"use strict";

const EVERY = 10000; // milliseconds from an answer to the next question

// Live refresh: the page is fetched anew, and what differs is changed in place, so that focus,
// scroll, selection, what is open and what is typed stay.

function change(old, fresh) {
  if (old.isEqualNode(fresh) || "still" in (old.dataset ?? {})) return;
  const isWhole = "whole" in (old.dataset ?? {});
  if (isWhole || old.nodeName !== fresh.nodeName || old.nodeType !== Node.ELEMENT_NODE) {
    old.replaceWith(fresh.cloneNode(true));
    return;
  }
  if (old.nodeName === "FORM") {
    // A token is renewed, but nothing that somebody may have begun to fill in.
    const token = fresh.querySelector("[name=csrf_token]");
    const known = old.querySelector("[name=csrf_token]");
    if (token && known) known.value = token.value;
    return;
  }
  for (const { name } of [...old.attributes]) {
    const isOpen = old.nodeName === "DETAILS" && name === "open";
    if (!fresh.hasAttribute(name) && !isOpen) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  const before = [...old.childNodes];
  const after = [...fresh.childNodes];
  after.forEach((node, at) => {
    if (at < before.length) change(before[at], node);
    else old.append(node.cloneNode(true));
  });
  before.slice(after.length).forEach((node) => node.remove());
}

let timer;
let paused = false;
let busy = false;

async function refresh() {
  if (busy || paused || document.hidden) return;
  busy = true;
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
    if (answer.redirected) return say(false); // to where one logs in
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    const main = fresh.querySelector("main");
    if (answer.ok && main && !paused) {
      for (const part of ["#captures", "main", "footer"]) {
        change(document.querySelector(part), fresh.querySelector(part));
      }
      say(true);
    } else if (!paused) say(false);
  } catch {
    if (!paused) say(false);
  } finally {
    busy = false;
    next();
  }
}

function next() {
  clearTimeout(timer);
  timer = setTimeout(refresh, EVERY);
}

const button = document.createElement("button");
button.type = "button";
button.className = "live";

function say(works) {
  button.dataset.state = paused ? "paused" : works ? "live" : "lost";
  button.textContent = paused ? "Paused" : works ? "Live" : "No answer";
  button.setAttribute("aria-pressed", String(!paused));
  button.title = paused ? "Refresh this page by itself" : "Stop refreshing this page";
}

button.addEventListener("click", () => {
  paused = !paused;
  say(true);
  if (!paused) refresh();
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) refresh();
});
say(true);
document.getElementById("live")?.append(button);
next();

// Tooltips: what `data-tip` says, beside the pointer or what has the focus.

const tip = document.getElementById("tip");

function show(target, x, y) {
  tip.textContent = target.dataset.tip;
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(8, Math.min(x + 12, innerWidth - width - 8))}px`;
  tip.style.top = `${y + 16 + height > innerHeight ? y - height - 12 : y + 16}px`;
}

function light(mark) {
  for (const each of document.querySelectorAll(".paired")) each.classList.remove("paired");
  if (!mark) return;
  for (const each of document.querySelectorAll(`[data-mark="${CSS.escape(mark)}"]`)) {
    each.classList.add("paired");
  }
}

document.addEventListener("pointermove", ({ target, clientX, clientY }) => {
  const tipped = target.closest?.("[data-tip]");
  if (tipped) {
    tipped.querySelector(":scope > title")?.remove(); // else the browser shows it, too
    show(tipped, clientX, clientY);
  } else tip.hidden = true;
  light(target.closest?.("[data-mark]")?.dataset.mark);
});
document.addEventListener("focusin", ({ target }) => {
  light(target.closest?.("[data-mark]")?.dataset.mark);
});
document.addEventListener("keydown", ({ key }) => {
  if (key === "Escape") tip.hidden = true;
});
document.addEventListener("scroll", () => { tip.hidden = true; }, true);
