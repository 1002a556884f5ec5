"use strict";
// Draws the interactive learning curves; without JavaScript and in print, the SVG is shown.
(() => {
  const data = JSON.parse(document.getElementById("curves-data").textContent);
  const chart = document.getElementById("curves");
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const boxes = [...document.querySelectorAll("input[data-arm]")];
  const single = document.getElementById("single-runs");
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  // Plotly interprets HTML in texts.
  const plain = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  // Three significant digits, or all before the decimal point, as in the tables.
  const format = (value) =>
    (Math.abs(value) >= 100
      ? value.toLocaleString("en", { maximumFractionDigits: 0 })
      : String(Number(value.toPrecision(3)))
    ).replace("-", "−");
  const faded = (color, share) =>
    color + Math.round(255 * share).toString(16).padStart(2, "0");

  function traces() {
    const colors = dark.matches ? data.dark : data.light;
    return data.arms.flatMap((arm, k) => [band(arm, colors[k]), runs(arm, colors[k]), center(arm, colors[k])]);
  }

  function band({ center: c }, color) {
    const known = c.x.map((_, i) => i).filter((i) => c.low[i] !== null);
    const back = [...known].reverse();
    return {
      x: [...known.map((i) => c.x[i]), ...back.map((i) => c.x[i])],
      y: [...known.map((i) => c.high[i]), ...back.map((i) => c.low[i])],
      type: "scatter", mode: "lines", fill: "toself", hoverinfo: "skip",
      fillcolor: faded(color, 0.16), line: { width: 0 },
    };
  }

  function runs(arm, color) {
    const x = [], y = [], text = [], customdata = [];
    for (const run of arm.runs) {
      x.push(...run.x, null);
      y.push(...run.y, null);
      text.push(...run.x.map(() => `${plain(arm.label)}, seed ${run.seed}`), "");
      customdata.push(...run.y.map(format), "");
    }
    return {
      x, y, text, customdata, type: "scatter", mode: "lines", line: { width: 1, color: faded(color, 0.55) },
      hovertemplate: "<b>%{text}</b><br>%{x:,} steps<br>return %{customdata}<extra></extra>",
    };
  }

  function center(arm, color) {
    const c = arm.center;
    return {
      x: c.x, y: c.y,
      text: c.runs.map((n) => plain(arm.label) + (n > 1 ? `, interquartile mean of ${n} runs` : ", its only run")),
      customdata: c.y.map((y, i) =>
        format(y) + (c.low[i] === null ? "" : ` [${format(c.low[i])}, ${format(c.high[i])}]`)),
      type: "scatter", mode: "lines", line: { width: 3, color: color },
      hovertemplate:
        "<b>%{text}</b><br>%{x:,} steps<br>return %{customdata}<extra></extra>",
    };
  }

  // Scales to the runs, as intervals of a few runs can be much wider.
  function range() {
    const values = data.arms.filter((arm) => arm.shown).flatMap((arm) => arm.runs.flatMap((run) => run.y));
    if (data.solved !== null) values.push(data.solved);
    const low = Math.min(...values), high = Math.max(...values), margin = 0.05 * ((high - low) || Math.abs(high)) || 1;
    return [low - margin, high + margin];
  }

  function layout() {
    const [low, high] = range();
    const exponent = Math.max(-low, high) < 1 ? "none" : "B"; // 0.0002 rather than 200μ
    const axis = {
      gridcolor: css("--line"), linecolor: css("--edge"), zeroline: false, ticks: "outside",
      tickcolor: css("--edge"), automargin: true,
    };
    const solved = data.solved === null ? {} : {
      shapes: [{
        type: "line", xref: "paper", x0: 0, x1: 1, y0: data.solved, y1: data.solved,
        line: { dash: "dash", width: 1, color: css("--muted") },
      }],
      annotations: [{
        xref: "paper", x: 1, y: data.solved, xanchor: "right", yanchor: "bottom", showarrow: false,
        text: `solved (${format(data.solved)})`, font: { color: css("--muted") },
      }],
    };
    return {
      ...solved, showlegend: false, hovermode: "closest", dragmode: "zoom",
      margin: { l: 8, r: 8, t: 8, b: 8 },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: css("--ink"), family: getComputedStyle(document.body).fontFamily, size: 13 },
      hoverlabel: { bgcolor: css("--card"), bordercolor: css("--edge"), font: { color: css("--ink") }, align: "left" },
      xaxis: { ...axis, title: { text: "environment steps" }, rangemode: "tozero" },
      yaxis: { ...axis, title: { text: "environment return per episode" }, range: [low, high], exponentformat: exponent },
    };
  }

  const shown = () =>
    boxes.flatMap((box) => [box.checked, box.checked && single.checked, box.checked]);

  function draw() {
    const visible = shown();
    const all = traces().map((trace, i) => ({ ...trace, visible: visible[i] }));
    return Plotly.react(chart, all, layout(), { responsive: true, displayModeBar: false });
  }

  document.documentElement.classList.add("js");
  draw();
  for (const box of [...boxes, single]) {
    box.addEventListener("change", () => Plotly.restyle(chart, { visible: shown() }));
  }
  dark.addEventListener("change", draw);
})();
