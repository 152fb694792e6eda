"use strict";
(() => {
  const held = JSON.parse(document.getElementById("plots").textContent);

  // Tables: a click on a heading sorts by it, a second one turns the order round.
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      head.querySelector("button").addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const body = table.tBodies[0];
        const key = (row) => row.cells[column].dataset.key ?? row.cells[column].textContent.trim();
        const numeric = head.classList.contains("number");
        const compare = (a, b) => {
          const [left, right] = [key(a), key(b)];
          if (!numeric) return left.localeCompare(right, "en", { numeric: true });
          // What was not measured stays at the end.
          if (left === "" || right === "") return (left === "") - (right === "") || 0;
          return Number(left) - Number(right);
        };
        const rows = [...body.rows].sort(compare);
        if (down) rows.reverse();
        body.append(...rows);
      });
    });
  }

  // Plots: expressions are interpreted, never evaluated, so that the page needs no permission to do that.
  if (window.vegaEmbed) {
    const waiting = Object.entries(held).map(([name, spec]) => {
      const place = document.getElementById("plot-" + name);
      if (!place) return null;
      place.replaceChildren();
      return window.vegaEmbed(place, spec, {
        mode: "vega-lite",
        renderer: "svg",
        ast: true,
        logLevel: 1,
        actions: { export: true, source: false, compiled: false, editor: false },
        downloadFileName: name,
      });
    });
    Promise.all(waiting).then(() => document.body.setAttribute("data-plots", "drawn"));
  }

  // The graph: the wheel and the keys + and - zoom, dragging and the arrow keys move.
  const svg = document.querySelector("svg.graph");
  if (!svg) return;
  const whole = svg.viewBox.baseVal;
  const start = { x: whole.x, y: whole.y, width: whole.width, height: whole.height };
  let view = { ...start };
  const show = () => svg.setAttribute("viewBox", [view.x, view.y, view.width, view.height].join(" "));
  const point = (event) => {
    const box = svg.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  };
  const zoom = (factor, [x, y]) => {
    const width = Math.min(Math.max(view.width * factor, 60), start.width * 4);
    const height = (width / view.width) * view.height;
    view = { x: view.x + (view.width - width) * x, y: view.y + (view.height - height) * y, width, height };
    show();
  };
  const fit = () => { view = { ...start }; show(); };
  const near = () => {
    const box = svg.getBoundingClientRect();
    const width = Math.min(start.width, 1300);
    view = { x: start.x + (start.width - width) / 2, y: start.y, width, height: (width * box.height) / box.width };
    show();
  };
  svg.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(event.deltaY > 0 ? 1.15 : 1 / 1.15, point(event));
  }, { passive: false });
  let drag = null;
  svg.addEventListener("pointerdown", (event) => { drag = { at: point(event), view: { ...view } }; });
  svg.addEventListener("pointermove", (event) => {
    if (!drag) return;
    const [x, y] = point(event);
    view.x = drag.view.x - (x - drag.at[0]) * view.width;
    view.y = drag.view.y - (y - drag.at[1]) * view.height;
    show();
  });
  window.addEventListener("pointerup", () => { drag = null; });
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1] }[event.key];
    if (step) { view.x += step[0] * view.width; view.y += step[1] * view.height; show(); }
    else if (event.key === "+") zoom(1 / 1.3, [0.5, 0.5]);
    else if (event.key === "-") zoom(1.3, [0.5, 0.5]);
    else if (event.key === "0") fit();
    else return;
    event.preventDefault();
  });
  for (const [id, action] of [["in", () => zoom(1 / 1.5, [0.5, 0.5])], ["out", () => zoom(1.5, [0.5, 0.5])],
    ["fit", fit], ["near", near]]) {
    document.getElementById("zoom-" + id).addEventListener("click", action);
  }
  // Pointing at a box marks what it stands for in the other graph.
  const byLink = new Map();
  const boxes = [...svg.querySelectorAll("g.box")];
  for (const box of boxes) {
    for (const link of JSON.parse(box.dataset.links)) {
      if (!byLink.has(link)) byLink.set(link, []);
      byLink.get(link).push(box);
    }
  }
  const pointed = document.getElementById("pointed");
  svg.addEventListener("click", (event) => {
    const box = event.target.closest("g.box");
    boxes.forEach((other) => other.classList.remove("marked"));
    if (!box) { pointed.textContent = ""; return; }
    const found = new Set([box]);
    for (const link of JSON.parse(box.dataset.links)) for (const other of byLink.get(link)) found.add(other);
    found.forEach((other) => other.classList.add("marked"));
    pointed.textContent = [...found].map((other) => other.querySelector("title").textContent).join("\n\n");
  });
  near();
})();
