/** @file Small charts of the last ten minutes: a line per upstream, and their values in the legend. */
import { h } from "/static/shared/dom.js";
import { clock } from "/static/shared/format.js";

/** @typedef {import("/static/admin/api.js").Tally} Tally */
/** @typedef {import("/static/admin/api.js").Overview} Overview */

const COLOURS = 6; // --c1 to --c6 in look.css

/** One chart. All charts share a cursor. */
export class Chart {
  /**
   * @param {string} title
   * @param {(tally: Tally | undefined, step: number) => number | null} value
   * @param {(value: number) => string} format
   */
  constructor(title, value, format) {
    this.value = value;
    this.format = format;
    this.legend = h("p", { class: "legend num" });
    this.place = h("div", { class: "plot", role: "img", "aria-label": `${title}, last ten minutes` });
    this.node = h("section", { class: "card chart" }, h("h2", {}, title), this.legend, this.place);
    /** @type {any} */
    this.plot = null;
    /** @type {string[]} */
    this.names = [];
    /** @type {(number | null)[][]} */
    this.data = [];
    new ResizeObserver(([entry]) => this.plot?.setSize({ width: Math.floor(entry.contentRect.width), height: 132 })).observe(this.place);
    document.addEventListener("themechange", () => this.node.isConnected && this.make());
  }

  /** @param {Overview} overview */
  update({ traffic, now, upstreams }) {
    const { step, points } = traffic;
    const seen = new Set(points.flatMap((point) => Object.keys(point.upstreams)));
    const names = [...upstreams.map((each) => each.name).filter((name) => seen.has(name)), ...[...seen].filter((name) => !upstreams.some((each) => each.name === name))];
    const at = new Map(points.map((point) => [point.t, point.upstreams]));
    const end = Math.floor(now / step) * step - step; // the step under way is not told yet
    const times = Array.from({ length: 119 }, (_, index) => end - (118 - index) * step);
    this.data = [times, ...names.map((name) => times.map((time) => this.value(at.get(time)?.[name], step)))];
    if (names.join() !== this.names.join() || !this.plot) {
      this.names = names;
      this.make();
    } else this.plot.setData(this.data);
    this.read(null);
  }

  /** Draws anew, with the colours of the theme. */
  make() {
    this.legend.replaceChildren(...this.names.map((name, index) => h("span", { class: `c${(index % COLOURS) + 1}` }, h("i"), name, " ", h("b"))));
    const colours = [...this.legend.children].map((node) => getComputedStyle(node.firstElementChild).color);
    const { color: ink, borderTopColor: line } = getComputedStyle(this.place);
    const axis = { stroke: ink, font: "11px system-ui", ticks: { show: false }, grid: { stroke: line, width: 1 } };
    this.plot?.destroy();
    this.plot = new /** @type {any} */ (globalThis).uPlot(
      {
        width: Math.max(120, Math.floor(this.place.clientWidth)),
        height: 132,
        legend: { show: false },
        padding: [8, 18, 0, 0], // at the right, half a time of day: the last may stand at the very end
        cursor: { sync: { key: "traffic" }, y: false, points: { size: 6 } },
        scales: { y: { range: (/** @type {any} */ _, /** @type {number} */ _low, /** @type {number | null} */ high) => [0, Math.max(1, (high ?? 0) * 1.12)] } },
        axes: [
          { ...axis, size: 24, space: 70, grid: { show: false }, values: (/** @type {any} */ _, /** @type {number[]} */ times) => times.map((time) => clock(time * 1000, false)) },
          { ...axis, size: 52, space: 34, values: (/** @type {any} */ _, /** @type {number[]} */ values) => values.map((value) => this.format(value)) },
        ],
        series: [{}, ...colours.map((stroke) => ({ stroke, width: 1.6, spanGaps: false, points: { show: true, size: 4, width: 0, fill: stroke, filter: (/** @type {any} */ plot, /** @type {number} */ series) => lonely(plot.data[series]) } }))],
        hooks: { setCursor: [(/** @type {any} */ plot) => this.read(plot.cursor.idx)] },
      },
      this.data,
      this.place,
    );
  }

  /** Puts the values at a place of the time line into the legend; null: the newest. @param {number | null | undefined} index */
  read(index) {
    const at = index ?? this.plot?.cursor.idx ?? this.data[0].length - 1;
    [...this.legend.querySelectorAll("b")].forEach((node, series) => {
      const value = this.data[series + 1]?.[at];
      node.textContent = value === null || value === undefined ? "–" : this.format(value);
    });
  }
}

/**
 * The places of values without neighbours: no line shows them.
 * @param {(number | null)[]} values
 */
function lonely(values) {
  const gone = (/** @type {number | null | undefined} */ value) => value === null || value === undefined;
  return values.flatMap((value, index) => (!gone(value) && gone(values[index - 1]) && gone(values[index + 1]) ? [index] : []));
}
