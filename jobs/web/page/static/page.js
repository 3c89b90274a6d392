// What HTML alone cannot: follow what happens, keys, the slider of two pictures. Without it all is read and sent.
"use strict";

const find = (what, within = document) => within.querySelector(what);
const all = (what, within = document) => [...within.querySelectorAll(what)];

// Live pages: one stream; a second after something happened htmx asks for the page again, however much it was. Not at
// once: the server's look is good for almost a second.
let stream = null, due = null, wait = 0, resting = null;
const changed = () => {
  due ??= setTimeout(() => {
    due = null;
    htmx.trigger(document.body, "kiln:changed");
  }, 1000);
};
const follow = () => {
  if (!find("[data-live]") || document.hidden) {
    stream?.close();
    stream = null;
  } else if (!stream && !resting) {
    stream = new EventSource("/v1/events");
    for (const kind of ["job", "away", "back", "more"]) stream.addEventListener(kind, changed);
    // Whether the server is gone is asked at once.
    stream.addEventListener("error", () => {
      if (stream?.readyState === EventSource.CLOSED) rest();
      changed();
    });
    stream.addEventListener("open", () => {
      wait = 0;
      if (find("#unreached")) changed();
    });
    stream.addEventListener("preview", (event) => renew(JSON.parse(event.data).id));
  }
};

// A stream that was refused is no stream any more; the next one is asked for later each time, up to a minute.
const rest = () => {
  stream = null;
  wait = Math.min(2 * wait || 1, 60);
  resting = setTimeout(() => {
    resting = null;
    follow();
  }, 1000 * wait);
};

// A page that cannot be renewed says so: what it shows may be old. Nothing else's answer takes its place, and no
// problem that may pass: only that it may not be seen, or is no more.
let renewed = new Date();
const unreached = (why) => {
  if (find("#unreached, #problem")) return;
  const when = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" }).format(renewed);
  const words = `This is as it was at ${when}: ${why}. It goes on by itself once that is over.`;
  find("main").before(Object.assign(document.createElement("p"), { id: "unreached", className: "banner", textContent: words }));
  find("#told").textContent = words;
};
document.addEventListener("htmx:sendError", (event) => event.detail.target.id === "main" && unreached("the server does not answer"));
document.addEventListener("htmx:beforeSwap", (event) => {
  const { target, xhr, requestConfig } = event.detail;
  if (target.id !== "main" || xhr.status === 204) return;
  const told = new DOMParser().parseFromString(xhr.responseText, "text/html");
  const passes = requestConfig.elt === target && xhr.status >= 400 && ![401, 403, 404].includes(xhr.status);
  event.detail.shouldSwap &&= find("#main", told) && !passes;
  if (!event.detail.shouldSwap) return unreached(find("#problem", told)?.textContent ?? "the server does not answer");
  renewed = new Date();
  find("#unreached")?.remove();
});

// A preview is shown once it is whole, so that nothing flickers.
const renew = (id) => {
  const shown = all("[data-preview]").find((one) => one.dataset.preview === id);
  if (!shown) return;
  const next = new Image();
  next.alt = "";
  next.src = `/previews/${id}?at=${Date.now()}`;
  next.decode().then(() => shown.replaceChildren(next), () => {});
};

// Morphing leaves what the reader opened or chose, and previews, which are newer than the page's own.
if (window.Idiomorph) {
  const callbacks = Idiomorph.defaults.callbacks;
  callbacks.beforeAttributeUpdated = (name, node) => !(name === "open" && node.tagName === "DETAILS");
  callbacks.beforeNodeMorphed = (old, next) => old.dataset?.keep === undefined && !(old.dataset?.preview && old.dataset.preview === next.dataset?.preview && find("img", old));
}

// Times in the reader's zone.
const localise = () => {
  const words = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
  for (const one of all("time[datetime]")) {
    const text = words.format(new Date(one.dateTime));
    if (one.textContent !== text) one.textContent = text;
  }
};

// Said aloud when it is another than before.
let told = find("[data-told]")?.dataset.told, done = "";
const tell = () => {
  const now = find("[data-told]")?.dataset.told;
  const words = [done, now && now !== told ? now : ""].filter(Boolean);
  if (words.length) find("#told").textContent = words.join(". ");
  [told, done] = [now, ""];
};
document.addEventListener("htmx:beforeSwap", (event) => {
  if (event.detail.xhr.status < 400) done = event.detail.requestConfig.elt.dataset.done ?? done;
});

document.addEventListener("htmx:afterSettle", () => {
  localise();
  tell();
  follow();
});
document.addEventListener("visibilitychange", () => {
  follow();
  if (!document.hidden && find("[data-live]")) htmx.trigger(document.body, "kiln:changed");
});
window.addEventListener("pagehide", () => stream?.close());
localise();
follow();

// Keys, where nobody types.
let last = "";
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select, [contenteditable]")) return;
  const before = last;
  last = event.key;
  const go = (address) => address && ((location.href = address), event.preventDefault());
  if (find("dialog[open]")) return;
  if (event.key === "?") find("#keys").showModal();
  else if (event.key === "/") {
    event.preventDefault();
    find("[data-search]") ? find("[data-search]").focus() : go("/gallery#search");
  } else if (before === "g") go({ n: "/", g: "/gallery", b: "/batches" }[event.key]);
  else if (event.key === "ArrowLeft") go(find("a[rel=prev]")?.href);
  else if (event.key === "ArrowRight") go(find("a[rel=next]")?.href);
  else if (event.key === "Escape") go(find("a[data-back]")?.href);
});

// Copying, where the browser lets a page.
if (navigator.clipboard) for (const one of all("[data-copy]")) {
  one.hidden = false;
  one.addEventListener("click", () => navigator.clipboard.writeText(find(`#${one.dataset.copy}`).textContent).then(() => {
    find("#told").textContent = one.textContent = "Copied";
  }, () => {}));
}

// Two pictures over each other, and how much of the first is shown.
const slider = find("[data-slider]");
if (slider) {
  const grip = find(".grip"), range = find("#split"), first = find("img", slider), side = find("[data-side]");
  const line = document.createElement("div");
  line.className = "split-line";
  const show = () => {
    const over = slider.classList.contains("over");
    first.style.clipPath = over ? `inset(0 ${100 - range.value}% 0 0)` : "";
    line.style.left = `${range.value}%`;
    range.disabled = !over;
  };
  const over = (on) => {
    slider.classList.toggle("over", on);
    on ? slider.append(line) : line.remove();
    side.setAttribute("aria-pressed", String(!on));
    show();
  };
  const drag = (event) => {
    const box = slider.getBoundingClientRect();
    range.value = Math.round((100 * (event.clientX - box.left)) / box.width);
    show();
  };
  slider.addEventListener("pointerdown", (event) => {
    if (!slider.classList.contains("over") || event.button) return;
    event.preventDefault();
    slider.setPointerCapture(event.pointerId);
    drag(event);
    slider.addEventListener("pointermove", drag);
    const end = () => slider.removeEventListener("pointermove", drag);
    for (const kind of ["pointerup", "pointercancel"]) slider.addEventListener(kind, end, { once: true });
  });
  range.addEventListener("input", show);
  side.addEventListener("click", () => over(!slider.classList.contains("over")));
  document.addEventListener("keydown", (event) => {
    if (event.target !== range && (event.key === "ArrowLeft" || event.key === "ArrowRight") && !event.target.closest("input, select, textarea")) {
      range.value = Number(range.value) + (event.key === "ArrowLeft" ? -5 : 5);
      show();
    }
  });
  grip.hidden = false;
  over(true);
}

// The gallery's two: a third choice lets the first go.
const chosen = [];
document.addEventListener("change", (event) => {
  if (event.target.name !== "pick") return;
  const at = chosen.indexOf(event.target);
  if (at >= 0) chosen.splice(at, 1);
  if (event.target.checked) chosen.push(event.target);
  if (chosen.length > 2) chosen.shift().checked = false;
  find("#told").textContent = `${chosen.length} of two chosen`;
});
