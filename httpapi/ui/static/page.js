"use strict";
// What the pages do beyond plain HTML: see the package's documentation. Nothing here is needed to use them.

// morph makes the element `from` like `to` without replacing what stays, so that focus, selections and clicks survive.
// Children with an id keep their element wherever they move to.
function morph(from, to) {
  // Whoever reads opens and closes these, and makes areas larger.
  const theirs = (name) => name === "style" || (name === "open" && from.localName === "details");
  for (const { name } of [...from.attributes]) {
    if (!to.hasAttribute(name) && !theirs(name)) from.removeAttribute(name);
  }
  for (const { name, value } of to.attributes) {
    if (from.getAttribute(name) !== value && !theirs(name)) from.setAttribute(name, value);
  }
  let at = from.firstChild;
  for (const next of to.childNodes) {
    if (at && at.dataset && "own" in at.dataset) at = at.nextSibling; // a copy button, which only this side has
    let here = next.id ? [...from.children].find((e) => e.id === next.id) : at;
    if (!here || here.nodeName !== next.nodeName || (here.id || "") !== (next.id || "")) {
      from.insertBefore(document.importNode(next, true), at);
      continue;
    }
    if (here !== at) from.insertBefore(here, at);
    at = here.nextSibling;
    if (next.nodeType === Node.ELEMENT_NODE) morph(here, next);
    else if (here.data !== next.data) here.data = next.data;
  }
  while (at) {
    const gone = at;
    at = at.nextSibling;
    if (!(gone.dataset && "own" in gone.dataset)) gone.remove();
  }
}

// enhance adds what only a script can: copy buttons, and local times as titles.
function enhance(root) {
  for (const block of root.querySelectorAll("[data-copy]")) {
    if (block.previousElementSibling?.dataset.own === "copy") continue;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy quiet";
    button.dataset.own = "copy";
    button.textContent = "Copy";
    button.setAttribute("aria-label", "Copy " + block.dataset.copy);
    button.addEventListener("click", () => copy(block, button));
    block.before(button);
  }
  for (const time of root.querySelectorAll("time[datetime]")) {
    const local = new Date(time.dateTime).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "long" });
    const utc = time.dateTime.slice(0, 19).replace("T", " ") + " UTC";
    time.title = utc + "\n" + local;
  }
}

async function copy(block, button) {
  const text = block.textContent;
  try {
    await navigator.clipboard.writeText(text);
  } catch { // plain HTTP on another machine has no clipboard
    const range = document.createRange();
    range.selectNodeContents(block);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    document.execCommand("copy");
  }
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = "Copy"; }, 2000);
}

// live asks for the page itself every other second and takes over what has changed, until somebody stops it.
function live() {
  const pause = Number(document.body.dataset.poll);
  const note = document.getElementById("live");
  if (!pause || !document.querySelector("[data-live]")) return;
  let on = true;
  let pressed = -Infinity; // since when; between a button's down and up nothing may move, but an up may get lost, as in a menu
  addEventListener("pointerdown", () => { pressed = performance.now(); });
  for (const end of ["pointerup", "pointercancel"]) addEventListener(end, () => { pressed = -Infinity; });
  const busy = () => performance.now() - pressed < 3000;
  const toggle = document.createElement("button");
  toggle.type = "button";
  toggle.className = "quiet";
  const say = (trouble) => {
    const text = trouble || (on ? "This page updates by itself." : "This page is as it was when you stopped it.");
    if (note.textContent !== text) note.textContent = text;
    note.classList.toggle("trouble", Boolean(trouble));
    toggle.textContent = on ? "Stop updates" : "Go on";
  };
  toggle.addEventListener("click", () => { on = !on; say(""); });
  note.after(" ", toggle);
  say("");
  const look = async () => {
    if (on && !document.hidden && !busy()) {
      try {
        const answer = await fetch(location.href, { cache: "no-store", credentials: "same-origin", signal: AbortSignal.timeout(10000) });
        if (answer.status === 401 || answer.status === 404) { location.reload(); return; } // signed out, or it is gone
        if (!answer.ok) throw new Error("status " + answer.status);
        const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
        if (on && !busy()) {
          for (const now of document.querySelectorAll("[data-live]")) {
            const then = fresh.getElementById(now.id);
            if (then) { morph(now, then); enhance(now); }
          }
        }
        say("");
      } catch {
        say("hookbolt does not answer; what you see may be old.");
      }
    }
    setTimeout(look, pause);
  };
  setTimeout(look, pause);
}

// What was done is said once: not again when the page is loaded anew, or its address passed on.
function forgetDone() {
  const here = new URL(location);
  if (!here.searchParams.has("done")) return;
  here.searchParams.delete("done");
  history.replaceState(null, "", here);
}

forgetDone();
enhance(document);
live();
