// Charts in the hand: values under the pointer, a picture of a run, tables sorted by a click. All from what is drawn.
(() => {
  const numbers = (text) => (text || "").split(":").map(Number);
  const brief = (value) => {
    const size = Math.abs(value);
    if (value === 0) return "0";
    if (size >= 1e5 || size < 1e-3) return value.toExponential(2);
    return size >= 100 ? value.toLocaleString("en-US", { maximumFractionDigits: 1 }) : String(Number(value.toPrecision(4)));
  };
  // The points of a path in shares of the plot, left and from below.
  const points = (path) => {
    if (path.wbFor !== path.getAttribute("d")) {
      path.wbFor = path.getAttribute("d");
      path.wbPoints = [...path.wbFor.matchAll(/[ML]([\d.e+-]+) ([\d.e+-]+)/g)].map((one) => [one[1] / 1000, 1 - one[2] / 100]);
    }
    return path.wbPoints;
  };
  const nearest = (found, share) => {
    let low = 0, high = found.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      found[middle][0] < share ? (low = middle + 1) : (high = middle);
    }
    return low && share - found[low - 1][0] < found[low][0] - share ? found[low - 1] : found[low];
  };
  const value = (plot, share) => {
    const [low, high] = numbers(plot.dataset.y);
    return plot.dataset.log ? low * Math.pow(high / low, share) : low + share * (high - low);
  };

  let shown = null;
  const hide = () => {
    shown?.forEach((one) => one.remove());
    shown = null;
  };
  const at = (plot, share) => {
    hide();
    const [low, high] = numbers(plot.dataset.x), lines = [...plot.querySelectorAll("path[data-name]")];
    const met = lines.map((path) => [path, nearest(points(path), share)]).filter(([, point]) => point);
    if (!met.length) return;
    const x = met.map(([, point]) => point[0]).reduce((a, b) => (Math.abs(b - share) < Math.abs(a - share) ? b : a));
    const rule = document.createElement("i"), box = document.createElement("div");
    rule.className = "wb-crosshair";
    rule.style.left = 100 * x + "%";
    box.className = "wb-values";
    box.style[x > 0.6 ? "right" : "left"] = `calc(${100 * (x > 0.6 ? 1 - x : x)}% + 10px)`;
    const head = document.createElement("b");
    head.textContent = plot.dataset.xName ? `${plot.dataset.xName} ${brief(low + x * (high - low))}` : brief(low + x * (high - low));
    box.append(head);
    met.forEach(([path, point]) => {
      const row = document.createElement("span"), key = document.createElement("i");
      key.className = "wb-key";
      key.style.borderColor = path.style.stroke;
      row.append(key, `${path.dataset.name} ${brief(value(plot, point[1]))} ${plot.dataset.unit || ""}`.trim());
      box.append(row);
    });
    plot.append(rule, box);
    shown = [rule, box];
  };
  document.addEventListener("pointermove", (event) => {
    const plot = event.target.closest?.(".wb-plot[data-x]");
    if (!plot || event.buttons) return hide();
    const box = plot.getBoundingClientRect();
    at(plot, (event.clientX - box.left) / box.width);
  });
  document.addEventListener("pointerleave", hide);

  // A picture of the curves of a run, drawn again on a canvas with the colours of the page.
  const picture = (place, name) => {
    const charts = [...place.querySelectorAll(".wb-chart")].filter((one) => one.querySelector(".wb-plot[data-x]"));
    const role = (variable) => getComputedStyle(document.body).getPropertyValue(variable).trim();
    const width = 1200, tall = 360, low = 190, pad = 64, rows = [[charts[0]]];
    for (let index = 1; index < charts.length; index += 2) rows.push(charts.slice(index, index + 2));
    const canvas = document.createElement("canvas"), pen = canvas.getContext("2d");
    canvas.width = width * 2;
    canvas.height = (60 + tall + (rows.length - 1) * low) * 2;
    pen.scale(2, 2);
    const font = getComputedStyle(document.body).fontFamily;
    pen.fillStyle = role("--wb-surface");
    pen.fillRect(0, 0, width, canvas.height);
    pen.fillStyle = role("--wb-text");
    pen.font = `600 20px ${font}`;
    pen.fillText(name, 24, 38);
    let top = 60;
    rows.forEach((row, number) => {
      const height = number ? low : tall, each = width / row.length;
      row.forEach((chart, place) => {
        const plot = chart.querySelector(".wb-plot"), x = place * each + pad, wide = each - pad - 24, high = height - 70;
        pen.fillStyle = role("--wb-text");
        pen.font = `600 13px ${font}`;
        pen.fillText(chart.querySelector(".wb-chart-title")?.textContent || "", x, top + 14);
        pen.font = `11px ${font}`;
        plot.querySelectorAll(".wb-tick").forEach((tick) => {
          const y = top + 26 + high * (1 - parseFloat(tick.style.bottom) / 100);
          pen.fillStyle = role("--wb-line");
          pen.fillRect(x, y, wide, 1);
          pen.fillStyle = role("--wb-muted");
          pen.textAlign = "right";
          pen.fillText(tick.textContent, x - 6, y + 4);
          pen.textAlign = "left";
        });
        [...chart.querySelectorAll(".wb-x-axis > span")].forEach((word, index) => {
          pen.textAlign = ["left", "center", "right"][index];
          pen.fillText(word.textContent, x + (wide * index) / 2, top + 44 + high);
        });
        pen.textAlign = "left";
        plot.querySelectorAll("path[data-name]").forEach((path) => {
          const style = getComputedStyle(path);
          pen.strokeStyle = style.stroke;
          pen.globalAlpha = Number(style.opacity);
          pen.lineWidth = parseFloat(style.strokeWidth);
          pen.setLineDash(style.strokeDasharray === "none" ? [] : [5, 4]);
          const scaled = new Path2D();
          scaled.addPath(new Path2D(path.getAttribute("d")), new DOMMatrix([wide / 1000, 0, 0, high / 100, x, top + 26]));
          pen.stroke(scaled);
          pen.globalAlpha = 1;
          pen.setLineDash([]);
        });
      });
      top += height;
    });
    const link = document.createElement("a");
    link.download = `${name.replace(/[\\/:*?"<>|\s]+/g, "-") || "run"}.png`;
    link.href = canvas.toDataURL("image/png");
    link.click();
  };
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-png]"), charts = document.getElementById("wb-charts");
    if (button && charts?.querySelector(".wb-plot[data-x]")) picture(charts, button.dataset.png);
  });

  // A table whose heads can be clicked: by number where a column has numbers, else by the words.
  const cell = (row, at) => row.children[at]?.dataset.sort ?? row.children[at]?.textContent.trim() ?? "";
  document.addEventListener("click", (event) => {
    const head = event.target.closest?.("table.wb-sortable thead button")?.closest("th");
    if (!head) return;
    const body = head.closest("table").tBodies[0], at = [...head.parentElement.children].indexOf(head);
    const down = head.getAttribute("aria-sort") === "ascending";
    [...head.parentElement.children].forEach((one) => one.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const compare = (a, b) => {
      const [one, other] = [cell(a, at), cell(b, at)], both = one !== "" && other !== "" && !isNaN(one) && !isNaN(other);
      return both ? one - other : one.localeCompare(other);
    };
    [...body.rows].sort((a, b) => (down ? compare(b, a) : compare(a, b))).forEach((row) => body.append(row));
  });
})();
