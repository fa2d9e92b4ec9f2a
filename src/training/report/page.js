// Shows the values under the pointer in each chart; the page is complete without it.
"use strict";
for (const figure of document.querySelectorAll("figure.chart")) {
  const chart = JSON.parse(figure.dataset.chart);
  const area = figure.querySelector(".area");
  const cross = figure.querySelector(".cross");
  const values = [...figure.querySelectorAll(".key b")];
  const xName = figure.querySelector(".x-name");
  const before = values.map((one) => one.textContent);

  const nearest = (xs, x) => {
    let low = 0, high = xs.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (xs[middle] < x) low = middle + 1; else high = middle;
    }
    return low > 0 && x - xs[low - 1] < xs[low] - x ? low - 1 : low;
  };
  const write = (y) => {
    if (chart.isShare) return (100 * y).toFixed(1) + "\u00a0%";
    const size = Math.abs(y);
    if (size === 0) return "0";
    if (size < 0.001) return y.toExponential(2);
    return size >= 1000 ? Math.round(y).toLocaleString("en") : y.toPrecision(4);
  };
  const show = (event) => {
    const box = area.getBoundingClientRect();
    const share = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
    const wanted = chart.low + share * (chart.high - chart.low);
    const anchor = chart.lines[chart.lines.length - 1];
    const x = anchor.x[nearest(anchor.x, wanted)];
    chart.lines.forEach((line, index) => { values[index].textContent = write(line.y[nearest(line.x, x)]); });
    const place = chart.high > chart.low ? (x - chart.low) / (chart.high - chart.low) : 0.5;
    cross.style.left = 100 * place + "%";
    cross.hidden = false;
    xName.textContent = chart.xName + " " + x.toLocaleString("en");
  };
  const hide = () => {
    values.forEach((one, index) => { one.textContent = before[index]; });
    cross.hidden = true;
    xName.textContent = chart.xName;
  };
  area.addEventListener("pointermove", show);
  area.addEventListener("pointerdown", show);
  area.addEventListener("pointerleave", hide);
}
