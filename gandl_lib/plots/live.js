/* What figures and tables answer when somebody points at them. Without this script nothing is missing: marks have
   titles, choices are <details>, tables are whole. Written by hand, for a page that works from a disk and for ever. */
(() => {
  "use strict";
  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };

  /* Marks of a drawing: what a pointer is near, or the arrow keys walk to, is said in a box and outlined. */
  function marks(figure, svg) {
    const all = [...svg.querySelectorAll("[data-mark]")];
    const said = all.map((mark) => {
      const title = mark.querySelector("title");
      title.remove(); // or the browser would say it a second time
      return title.textContent;
    });
    const sheet = document.getElementById(svg.dataset.sheet || "");
    const box = make("div", { class: "fig-tip", role: "status", hidden: "" });
    svg.parentElement.after(box);
    svg.setAttribute("tabindex", "0");
    svg.setAttribute("role", "group"); // an image must hold nothing that can be walked through
    svg.setAttribute("aria-roledescription", "figure with marks");
    svg.setAttribute("aria-label", svg.getAttribute("aria-label") + " Arrow keys go from mark to mark.");
    for (const child of svg.children) child.setAttribute("aria-hidden", "true");
    let now = -1;
    const places = () =>
      all.map((mark) => {
        const r = mark.getBoundingClientRect();
        return { x: r.x + r.width / 2, y: r.y + r.height / 2, reach: Math.max(14, 0.6 * Math.max(r.width, r.height)) };
      });
    function tell(i) {
      if (now >= 0) all[now].classList.remove("fig-on");
      now = i;
      box.hidden = i < 0;
      if (i < 0) return;
      all[i].classList.add("fig-on");
      box.replaceChildren(make("span", {}, said[i]));
      const at = all[i].dataset.at;
      if (sheet && at) {
        const [left, top, side] = at.split(" ").map(Number);
        const big = 112 / side;
        const picture = make("span", { class: "fig-picture", role: "img", "aria-label": "its picture" });
        picture.style.backgroundImage = `url(${sheet.src})`;
        picture.style.backgroundSize = `${sheet.naturalWidth * big}px auto`;
        picture.style.backgroundPosition = `${-left * big}px ${-top * big}px`;
        box.prepend(picture);
      }
      const frame = figure.getBoundingClientRect();
      const mark = all[i].getBoundingClientRect();
      box.style.left = `${Math.max(0, Math.min(mark.x - frame.x + 14, frame.width - box.offsetWidth))}px`;
      box.style.top = `${mark.y - frame.y + mark.height + 10}px`;
    }
    function near(event) {
      let best = -1;
      let least = Infinity;
      places().forEach((p, i) => {
        const d = Math.hypot(p.x - event.clientX, p.y - event.clientY);
        if (d < least && d <= p.reach) [best, least] = [i, d];
      });
      if (best !== now) tell(best);
    }
    function step(key) {
      const p = places();
      if (now < 0) return 0;
      const [dx, dy] = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[key];
      let best = now;
      let least = Infinity;
      p.forEach((q, i) => {
        const [x, y] = [q.x - p[now].x, q.y - p[now].y];
        const [along, across] = [x * dx + y * dy, Math.abs(x * dy) + Math.abs(y * dx)];
        if (along > 0.5 && along + 3 * across < least) [best, least] = [i, along + 3 * across];
      });
      return best;
    }
    svg.addEventListener("pointermove", near);
    svg.addEventListener("pointerdown", near);
    svg.addEventListener("pointerleave", () => document.activeElement !== svg && tell(-1));
    svg.addEventListener("blur", () => tell(-1));
    svg.addEventListener("keydown", (event) => {
      if (event.key === "Escape") tell(-1);
      else if (event.key.startsWith("Arrow")) tell(step(event.key));
      else return;
      event.preventDefault();
    });
  }

  /* A table: its heads sort, a field filters, a button writes what is shown as CSV. */
  function table(figure, grid) {
    const rows = [...grid.tBodies[0].rows];
    const heads = [...grid.tHead.rows[0].cells];
    const value = (row, k) => {
      const text = row.cells[k].textContent.trim();
      const number = parseFloat(text.replace(/[<>]|,(?=\d{3})/g, "").replace("−", "-"));
      return Number.isNaN(number) ? (text === "–" ? null : text.toLowerCase()) : number;
    };
    heads.forEach((head, k) => {
      const button = make("button", { type: "button", class: "fig-sort" }, ...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const up = head.getAttribute("aria-sort") !== "ascending";
        heads.forEach((h) => h.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        const order = (a, b) => {
          const [x, y] = [value(a, k), value(b, k)];
          if (x === null || y === null) return (x === null) - (y === null); // nothing comes last, either way
          const less = typeof x === typeof y ? (x > y) - (x < y) : typeof x === "number" ? -1 : 1;
          return up ? less : -less;
        };
        grid.tBodies[0].append(...[...rows].sort(order));
      });
    });
    const field = make("input", { type: "search" });
    const count = make("span", { role: "status" });
    const csv = make("button", { type: "button" }, "Download CSV");
    field.addEventListener("input", () => {
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const row of rows) row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
      const left = rows.filter((row) => !row.hidden).length;
      count.textContent = left < rows.length ? `${left} of ${rows.length} rows` : "";
    });
    csv.addEventListener("click", () => {
      const shown = [...grid.tBodies[0].rows].filter((row) => !row.hidden);
      const quoted = (cell) => `"${cell.textContent.trim().replaceAll('"', '""')}"`;
      const lines = [grid.tHead.rows[0], ...shown].map((row) => [...row.cells].map(quoted).join(","));
      const text = "\ufeff" + lines.join("\r\n") + "\r\n"; // the mark tells spreadsheets that µ is a µ
      const link = make("a", { download: `${grid.dataset.name || "table"}.csv` });
      link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
      link.click();
      URL.revokeObjectURL(link.href);
    });
    grid.parentElement.before(make("div", { class: "fig-tools" }, make("label", {}, "Filter ", field), csv, count));
  }

  /* One of many: a list to choose from instead of as many <details>. */
  function choice(figure, many) {
    const list = make("select");
    for (const one of many) list.append(make("option", {}, one.querySelector("summary").textContent));
    const show = () =>
      many.forEach((one, k) => {
        one.hidden = k !== list.selectedIndex;
        one.open = k === list.selectedIndex;
      });
    for (const one of many) one.querySelector("summary").hidden = true;
    list.addEventListener("change", show);
    many[0].before(make("div", { class: "fig-tools" }, make("label", {}, `${figure.dataset.choose} `, list)));
    show();
  }

  /* Any picture, as large as it is, in a window of its own that scrolls. */
  function enlarge(figure, picture) {
    const button = make("button", { type: "button", class: "fig-large" }, "Enlarge");
    button.addEventListener("click", () => {
      const close = make("button", { type: "button", autofocus: "" }, "Close");
      const copy = picture.cloneNode(true);
      copy.removeAttribute("tabindex");
      copy.style.cssText += ";min-width:1100px;max-width:none";
      const dialog = make("dialog", { class: "fig-window", "aria-label": "Enlarged figure" }, close, copy);
      close.addEventListener("click", () => dialog.close());
      dialog.addEventListener("close", () => dialog.remove());
      document.body.append(dialog);
      dialog.showModal();
    });
    (figure.querySelector("figcaption") || figure).append(" ", button);
  }

  /* A table wider than its box: said above it, for where scroll bars hide themselves nothing shows that there is more. */
  function more(box) {
    const hint = make("p", { class: "fig-more", "aria-hidden": "true", hidden: "" }, "More columns to the right: scroll →");
    box.before(hint);
    new ResizeObserver(() => (hint.hidden = box.scrollWidth <= box.clientWidth + 2)).observe(box);
  }

  function wake() {
    for (const figure of document.querySelectorAll("figure.fig:not([data-awake])")) {
      figure.dataset.awake = "";
      for (const svg of figure.querySelectorAll("svg"))
        if (svg.querySelector("[data-mark]")) marks(figure, svg);
      const grid = figure.querySelector("table.fig-live");
      if (grid) table(figure, grid);
      const wide = figure.querySelector(".fig-scroll");
      if (wide) more(wide);
      const many = [...figure.querySelectorAll("details[data-one]")];
      if (many.length > 1) choice(figure, many);
      const pictures = figure.querySelectorAll(".fig-drawn > svg, .fig-drawn > img");
      if (pictures.length === 1) enlarge(figure, pictures[0]);
    }
  }
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", wake);
  else wake();
})();
