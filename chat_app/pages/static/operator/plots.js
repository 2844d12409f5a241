// Small plots as SVG, each with a table of its numbers for who cannot see it.
import { html } from "../kit.js";
import { number, percent, t } from "../words.js";
import { short } from "./asking.js";

const W = 320;
const H = 150;
const PAD = { top: 12, right: 8, bottom: 24, left: 56 };
const LINE = 900; // rows of a table of numbers are thinned to about thirty

const brief = (value) => number(Number(value.toPrecision(2)), 4); // beside an axis
const span = (values) => {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  return low === high ? [low - 0.5, high + 0.5] : [low, high];
};

/** A frame with the ends of both axes; `children` draws into it. */
function Frame({ label, x, y, xs, ys, children }) {
  const bottom = H - PAD.bottom;
  return html`<svg class="plot" viewBox=${`0 0 ${W} ${H}`} role="img" aria-label=${label}>
    <line class="axis" x1=${PAD.left} x2=${W - PAD.right} y1=${bottom} y2=${bottom} />
    ${ys?.map(
      ([at, text]) => html`<g key=${text}>
        <line class="grid" x1=${PAD.left} x2=${W - PAD.right} y1=${y(at)} y2=${y(at)} />
        <text x=${PAD.left - 5} y=${y(at) + 3.5} text-anchor="end">${text}</text>
      </g>`,
    )}
    ${xs?.map(([at, text, anchor]) => html`<text key=${text} x=${x(at)} y=${H - 8} text-anchor=${anchor ?? "middle"}>${text}</text>`)}
    ${children}
  </svg>`;
}

const scaleX = ([low, high]) => (v) => PAD.left + ((v - low) / (high - low || 1)) * (W - PAD.left - PAD.right);
const scaleY = ([low, high]) => (v) => H - PAD.bottom - ((v - low) / (high - low || 1)) * (H - PAD.top - PAD.bottom);
const path = (points) => points.map(([a, b], i) => `${i ? "L" : "M"}${a.toFixed(1)} ${b.toFixed(1)}`).join("");

/** A figure: title, the picture, what its colours mean, and the numbers as a table. */
export function Figure({ title, keys, numbers, children }) {
  return html`<figure class="figure">
    <figcaption>
      <strong>${title}</strong>
      ${keys?.map(([cls, text]) => html`<span class=${`key ${cls}`} key=${text}>${text}</span>`)}
    </figcaption>
    ${children}
    ${numbers &&
    html`<details>
      <summary>${t("operator.plot.numbers")}</summary>
      <div class="scroll" tabindex="0" role="region" aria-label=${title}>
        <table class="table number">
          <thead><tr>${numbers.head.map((name) => html`<th scope="col" key=${name}>${name}</th>`)}</tr></thead>
          <tbody>${thinned(numbers.rows).map((row) => html`<tr key=${row[0]}>${row.map((cell, i) => html`<td key=${i}>${cell}</td>`)}</tr>`)}</tbody>
        </table>
      </div>
    </details>`}
  </figure>`;
}

function thinned(rows) {
  const step = Math.ceil((rows.length * 30) / LINE);
  return rows.filter((_, i) => i % step === 0 || i === rows.length - 1);
}

/** One curve over iterations. */
function Curve({ title, values, cls }) {
  const [low, high] = span(values);
  const x = scaleX([1, Math.max(2, values.length)]);
  const y = scaleY([low, high]);
  const points = values.map((value, i) => [x(i + 1), y(value)]);
  const label = t("operator.plot.from_to", { title, first: short(values[0]), last: short(values.at(-1)), count: values.length });
  return html`<${Frame} label=${label} x=${x} y=${y} ys=${[[low, brief(low)], [high, brief(high)]]}
      xs=${[[1, "1", "start"], [Math.max(2, values.length), number(values.length), "end"]]}>
    <path class=${`line ${cls}`} d=${path(points)} />
    <circle class=${`dot ${cls}`} cx=${points.at(-1)[0]} cy=${points.at(-1)[1]} r="3.5" />
  <//>`;
}

/** Reward and KL of each iteration of PPO: two small curves with one table. */
export function Training({ scores, kls }) {
  const rows = scores.map((score, i) => [i + 1, short(score), short(kls[i])]);
  const head = [t("operator.plot.iteration"), t("operator.plot.score"), t("operator.plot.kl")];
  return html`<${Figure} title=${t("operator.plot.training")} numbers=${{ head, rows }}>
    <div class="pair">
      <div><span class="quiet">${t("operator.plot.score")}</span><${Curve} title=${t("operator.plot.score")} values=${scores} cls="one" /></div>
      <div><span class="quiet">${t("operator.plot.kl")}</span><${Curve} title=${t("operator.plot.kl")} values=${kls} cls="two" /></div>
    </div>
  <//>`;
}

/** How the scores of two policies are distributed. */
export function Scores({ served, candidate }) {
  const bins = 24;
  const [low, high] = span([...served, ...candidate]);
  const count = (values) => {
    const found = Array(bins).fill(0);
    for (const value of values) found[Math.min(bins - 1, Math.floor(((value - low) / (high - low)) * bins))] += 1;
    return found.map((n) => n / values.length);
  };
  const [one, two] = [count(served), count(candidate)];
  const x = scaleX([low, high]);
  const y = scaleY([0, Math.max(...one, ...two)]);
  const edge = (i) => low + ((high - low) * i) / bins;
  const bars = (shares, cls) => shares.map((n, i) => n > 0 && html`<rect key=${i} class=${cls} x=${x(edge(i)) + 0.5} width=${x(edge(i + 1)) - x(edge(i)) - 1} y=${y(n)} height=${y(0) - y(n)} />`);
  const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;
  const label = t("operator.plot.scores.told", { served: short(mean(served)), candidate: short(mean(candidate)) });
  const head = [t("operator.plot.score"), t("operator.served"), t("operator.candidate")];
  const rows = one.map((n, i) => [`${short(edge(i))} … ${short(edge(i + 1))}`, percent(n, 1), percent(two[i], 1)]);
  const keys = [["old", t("operator.served")], ["one", t("operator.candidate")]];
  return html`<${Figure} title=${t("operator.plot.scores")} keys=${keys} numbers=${{ head, rows }}>
    <${Frame} label=${label} x=${x} y=${y} xs=${[[low, short(low), "start"], [high, short(high), "end"]]}>
      ${bars(one, "bar old")}${bars(two, "bar one")}
    <//>
  <//>`;
}

/** The win rate with its interval, on a line from 0 to 1. */
export function WinRate({ rate, low, high }) {
  const x = scaleX([0, 1]);
  const y = () => 70;
  const values = { rate: percent(rate), low: percent(low), high: percent(high) };
  const head = [t("operator.win_rate"), t("operator.plot.low"), t("operator.plot.high")];
  return html`<${Figure} title=${t("operator.plot.wins")} numbers=${{ head, rows: [[values.rate, values.low, values.high]] }}>
    <${Frame} label=${t("operator.plot.wins.told", values)} x=${x} y=${y}
        xs=${[[0, percent(0), "start"], [0.5, percent(0.5)], [1, percent(1), "end"]]}>
      <line class="grid half" x1=${x(0.5)} x2=${x(0.5)} y1=${PAD.top} y2=${H - PAD.bottom} />
      <line class="line one" x1=${x(low)} x2=${x(high)} y1="70" y2="70" />
      ${[low, high].map((end) => html`<line key=${end} class="line one" x1=${x(end)} x2=${x(end)} y1="62" y2="78" />`)}
      <circle class="dot one" cx=${x(rate)} cy="70" r="6" />
      <text class="big" x=${x(rate)} y="48" text-anchor="middle">${values.rate}</text>
    <//>
  <//>`;
}

/** The evidence of a trial after each choice, on a scale of powers of ten. */
export function Evidence({ points, enough }) {
  const floor = 0.01;
  const log = (value) => Math.log10(Math.max(floor, value));
  const most = Math.max(enough * 1.5, ...points.flatMap(([, better, worse]) => [better, worse]));
  const x = scaleX([0, Math.max(1, points.at(-1)[0])]);
  const y0 = scaleY([Math.min(-1, ...points.flatMap(([, a, b]) => [log(a), log(b)])), log(most)]);
  const y = (value) => y0(log(value));
  const [n, better, worse] = points.at(-1);
  const label = t("operator.plot.evidence.told", { count: n, better: short(better), worse: short(worse), enough: short(enough) });
  const head = [t("operator.plot.choices"), t("operator.plot.better"), t("operator.plot.worse")];
  const rows = points.map(([count, a, b]) => [number(count), short(a), short(b)]);
  const keys = [["one", t("operator.plot.better")], ["bad", t("operator.plot.worse")]];
  return html`<${Figure} title=${t("operator.plot.evidence")} keys=${keys} numbers=${{ head, rows }}>
    <${Frame} label=${label} x=${x} y=${y} ys=${[[1, "1"], [enough, short(enough)]]}
        xs=${[[0, "0", "start"], [Math.max(1, n), t("operator.plot.after", { n }), "end"]]}>
      <line class="enough" x1=${PAD.left} x2=${W - PAD.right} y1=${y(enough)} y2=${y(enough)} />
      <path class="line one" d=${path(points.map(([a, b]) => [x(a), y(b)]))} />
      <path class="line bad" d=${path(points.map(([a, , c]) => [x(a), y(c)]))} />
    <//>
  <//>`;
}
