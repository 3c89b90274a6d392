// The form of *New*: files that are dropped, and boxes drawn on the picture. The fields beside hold all of it.
"use strict";

const say = (words) => (find("#told").textContent = words);

// Files dropped anywhere on the page: pictures to the references, another as a file of jobs.
const isPicture = (file) => file.type.startsWith("image/");
const give = (input, files) => {
  const held = new DataTransfer();
  for (const file of files) held.items.add(file);
  input.files = held.files;
};
const over = (on) => all("[data-drop]").forEach((one) => one.classList.toggle("is-over", on));
document.addEventListener("dragover", (event) => {
  if (![...event.dataTransfer.types].includes("Files")) return;
  event.preventDefault();
  over(true);
});
document.addEventListener("dragleave", (event) => event.relatedTarget || over(false));
document.addEventListener("drop", (event) => {
  const files = [...event.dataTransfer.files];
  if (!files.length) return;
  event.preventDefault();
  over(false);
  const pictures = files.filter(isPicture), other = files.find((file) => !isPicture(file));
  if (other) {
    give(find("#file"), [other]);
    find("#file-form").requestSubmit();
  } else if (find("#pictures")) {
    give(find("#pictures"), pictures);
    find("#add").click();
  } else say(`${find("#model").value} takes no more pictures`);
});

// Chosen pictures are looked at, and stored, at once.
document.addEventListener("change", (event) => {
  if (event.target.id === "pictures" && event.target.files.length) find("#add").click();
});

// What was typed stays, whatever the server answers, and though it was typed while it was asked.
const fields = () => all("input, select, textarea", find("#ask")).filter((one) => one.name && !["hidden", "file"].includes(one.type));
const ticks = (one) => ["radio", "checkbox"].includes(one.type);
const named = (one) => one.id || `${one.name} ${one.value}`;
const typed = () => new Map(fields().map((one) => [named(one), ticks(one) ? one.checked : one.value]));
let sent = new Map(), since = [];
document.addEventListener("htmx:beforeRequest", (event) => {
  if (event.detail.target.id === "ask") sent = typed();
});
document.addEventListener("htmx:beforeSwap", (event) => {
  if (event.detail.target.id !== "ask") return;
  since = [...typed()].filter(([name, value]) => sent.has(name) && sent.get(name) !== value);
  if (event.detail.xhr.responseText.includes('id="ask"')) return;
  event.detail.shouldSwap = false;
  unheard();
});
const retype = () => {
  for (const one of fields()) {
    const found = since.find(([name]) => name === named(one));
    if (found && ticks(one)) one.checked = found[1];
    else if (found) one.value = found[1];
  }
  since = [];
};
document.addEventListener("htmx:sendError", () => unheard());
const unheard = () => {
  const words = "This could not be done now; what you typed is kept. Try again in a moment.";
  say(words);
  find("#unheard")?.remove();
  const line = Object.assign(document.createElement("p"), { id: "unheard", className: "banner", textContent: words });
  find("#ask").prepend(line);
};

// Boxes: each picture's four fields, drawn. Lengths are parts of the picture, as in the fields.
const EDGES = ["x1", "x2", "y1", "y2"];
const drawn = (name, attributes = {}) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
};
const within = (value) => Math.min(1, Math.max(0, value));
const rounded = (value) => String(Math.round(within(value) * 1000) / 1000);

const stage = () => {
  const at = find("#stage");
  if (!at) return;
  at.hidden = false;
  const paper = find(".paper", at), svg = drawn("svg");
  const sheet = drawn("rect", { class: "sheet-edge" });
  svg.append(sheet);
  paper.replaceChildren(svg);
  let width = 1, height = 1, chosen = -1;

  const boxes = all("[data-box]").map((fields, number) => {
    const inputs = Object.fromEntries(all("[data-edge]", fields).map((one) => [one.dataset.edge, one]));
    const group = drawn("g", { tabindex: 0, role: "img" });
    const rect = drawn("rect"), words = drawn("text"), grip = drawn("circle");
    const shown = drawn("image", { href: find("img", fields.closest(".ref")).src });
    words.textContent = number + 1;
    group.append(shown, rect, words, grip);
    svg.append(group);
    const box = {
      group, grip,
      get edges() {
        const found = EDGES.map((edge) => (inputs[edge].value === "" ? NaN : Number(inputs[edge].value)));
        return found.some(Number.isNaN) ? null : found;
      },
      set edges(found) {
        EDGES.forEach((edge, n) => (inputs[edge].value = found ? rounded(found[n]) : ""));
        box.show();
      },
      show() {
        const found = box.edges;
        group.setAttribute("display", found ? "inline" : "none");
        group.classList.toggle("is-chosen", chosen === number);
        if (!found) return;
        const [x1, x2, y1, y2] = found, size = Math.max(width, height);
        const place = { x: x1 * width, y: y1 * height, width: Math.max(0, x2 - x1) * width, height: Math.max(0, y2 - y1) * height };
        for (const one of [rect, shown]) for (const [key, value] of Object.entries(place)) one.setAttribute(key, value);
        words.setAttribute("x", place.x + size * 0.015);
        words.setAttribute("y", place.y + size * 0.055);
        words.setAttribute("font-size", size * 0.05);
        grip.setAttribute("cx", x2 * width);
        grip.setAttribute("cy", y2 * height);
        grip.setAttribute("r", size * 0.02);
        const parts = found.map((one) => Math.round(one * 100));
        group.setAttribute("aria-label", `Picture ${number + 1}: left ${parts[0]}, right ${parts[1]}, top ${parts[2]}, bottom ${parts[3]} percent`);
      },
    };
    for (const one of Object.values(inputs)) one.addEventListener("input", box.show);
    group.addEventListener("focus", () => choose(number));
    group.addEventListener("keydown", (event) => keyed(event, box, number));
    return box;
  });

  const choose = (number) => {
    chosen = number;
    boxes.forEach((box) => box.show());
  };
  const moved = ([x1, x2, y1, y2], dx, dy) => {
    const right = Math.min(Math.max(dx, -x1), 1 - x2), down = Math.min(Math.max(dy, -y1), 1 - y2);
    return [x1 + right, x2 + right, y1 + down, y2 + down];
  };
  const grown = ([x1, x2, y1, y2], dx, dy) => [x1, Math.max(x1 + 0.02, within(x2 + dx)), y1, Math.max(y1 + 0.02, within(y2 + dy))];

  const keyed = (event, box, number) => {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (way) box.edges = (event.shiftKey ? grown : moved)(box.edges, way[0] * 0.01, way[1] * 0.01);
    else if (event.key === "Delete" || event.key === "Backspace") {
      box.edges = null;
      paper.focus();
      say(`Picture ${number + 1} has no box`);
    } else return;
    event.preventDefault();
    event.stopPropagation();
  };
  paper.addEventListener("keydown", (event) => {
    const next = boxes.findIndex((box) => !box.edges);
    if (event.key !== "n" || next < 0) return;
    boxes[next].edges = [0.25, 0.75, 0.25, 0.75];
    boxes[next].group.focus();
    event.preventDefault();
    event.stopPropagation();
  });

  // Mouse, pen and finger: on the paper a new box, on a box it moves, at its corner it grows.
  const spot = (event) => {
    const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    return [point.x / width, point.y / height];
  };
  svg.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    const [x, y] = spot(event);
    let number = boxes.findIndex((box) => box.group.contains(event.target));
    const how = number < 0 ? "draw" : event.target === boxes[number].grip ? "grow" : "move";
    if (number < 0) number = boxes.findIndex((box) => !box.edges);
    if (number < 0) number = Math.max(chosen, 0);
    const box = boxes[number], before = box.edges;
    event.preventDefault();
    svg.setPointerCapture(event.pointerId);
    const drag = (step) => {
      const [nx, ny] = spot(step).map(within), [sx, sy] = [within(x), within(y)];
      if (how === "move") box.edges = moved(before, nx - x, ny - y);
      else if (how === "grow") box.edges = grown(before, nx - x, ny - y);
      else if (Math.abs(nx - sx) > 0.01 && Math.abs(ny - sy) > 0.01) box.edges = [Math.min(sx, nx), Math.max(sx, nx), Math.min(sy, ny), Math.max(sy, ny)];
    };
    const end = () => {
      svg.removeEventListener("pointermove", drag);
      if (box.edges) box.group.focus({ preventScroll: true });
    };
    svg.addEventListener("pointermove", drag);
    svg.addEventListener("lostpointercapture", end, { once: true });
    choose(number);
  });

  const resize = () => {
    const size = find("#size").value, own = [find("#width").value, find("#height").value];
    const sides = (size === "own" ? own : (size || at.dataset.usual).split("x")).map(Number);
    [width, height] = sides.every((side) => side > 0) ? sides : [1, 1];
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    sheet.setAttribute("width", width);
    sheet.setAttribute("height", height);
    boxes.forEach((box) => box.show());
  };
  for (const name of ["size", "width", "height"]) find(`#${name}`).addEventListener("input", resize);
  resize();
};

const ready = () => {
  for (const one of all("[data-drophint]")) one.hidden = false;
  stage();
};
document.addEventListener("htmx:afterSettle", (event) => {
  if (event.detail.target.id !== "ask" && event.detail.elt.id !== "ask") return;
  retype();
  ready();
  const many = all(".ref").length;
  if (many) say(`${many} picture${many === 1 ? "" : "s"}`);
});
ready();
find("#wrong")?.focus();
