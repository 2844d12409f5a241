// The reward model's scores of both policies' replies, a small chart a round, as Llama 2 shows them.
import { html } from "../kit.js";
import { number, percent, t } from "../words.js";

const WIDTH = 260;
const HEIGHT = 120;
const FOOT = 18; // for the axis
const SHOWN = 8; // rounds

export function ScoreCharts({ rounds }) {
  if (rounds.length === 0) return null;
  const shown = rounds.slice(0, SHOWN);
  const most = Math.max(...shown.flatMap(({ scores }) => [...scores.served, ...scores.candidate]));
  return html`<section class="card stack" aria-labelledby="scores">
    <h2 id="scores">${t("progress.scores")}</h2>
    <p class="quiet">${t("progress.scores_text")}</p>
    <p class="legend">
      <span><${Key} name="served" /> ${t("progress.before_round")}</span>
      <span><${Key} name="candidate" /> ${t("progress.after_round")}</span>
    </p>
    <p class="quiet">${t("progress.scores_read")}</p>
    <div class="charts">
      ${shown.map((round) => html`<${Chart} round=${round} most=${most} key=${round.number} />`)}
    </div>
    <details>
      <summary>${t("progress.as_table")}</summary>
      <${Table} rounds=${shown} />
    </details>
  </section>`;
}

function Key({ name }) {
  return html`<svg class="scores" viewBox="0 0 28 10" width="28" height="10" aria-hidden="true" focusable="false">
    <path class=${name} d="M1 5H27" />
  </svg>`;
}

function Chart({ round, most }) {
  const { scores } = round;
  const count = scores.served.length;
  const x = (bin) => (bin / count) * WIDTH;
  const y = (share) => HEIGHT - (share / most) * (HEIGHT - 6);
  const step = (shares) => shares.map((share, bin) => `L${x(bin)} ${y(share)}H${x(bin + 1)}`).join("");
  const area = (shares) => `M0 ${HEIGHT}${step(shares)}V${HEIGHT}Z`;
  const zero = x(-scores.start / scores.width);
  const label = t("progress.chart", { round: round.number, ...told(scores) });
  return html`<figure class="chart">
    <svg class="scores" viewBox=${`0 0 ${WIDTH} ${HEIGHT + FOOT}`} role="img" aria-label=${label}>
      <path class="fill" d=${area(scores.candidate)} />
      <path class="served" d=${area(scores.served)} />
      <path class="candidate" d=${area(scores.candidate)} />
      <line class="zero" x1=${zero} x2=${zero} y1="0" y2=${HEIGHT} />
      ${[-4, -2, 0, 2, 4].map((mark) => {
        const at = x((mark - scores.start) / scores.width);
        const anchor = mark === -4 ? "start" : mark === 4 ? "end" : "middle";
        return html`<text x=${at} y=${HEIGHT + 14} text-anchor=${anchor} key=${mark}>${signed(mark, 0)}</text>`;
      })}
    </svg>
    <figcaption>
      <b>${t("progress.round", { round: round.number })}</b>
      <span class="quiet">${t("progress.shift", told(scores))}</span>
    </figcaption>
  </figure>`;
}

const told = ({ shift, above }) => ({ shift: signed(shift, 1), above: percent(above) });
const signed = (value, digits) => number(value, digits, { signDisplay: "exceptZero" });

function Table({ rounds }) {
  return html`<table class="table">
    <thead>
      <tr>
        <th scope="col">${t("progress.column_round")}</th>
        <th scope="col">${t("progress.column_shift")}</th>
        <th scope="col">${t("progress.column_above")}</th>
      </tr>
    </thead>
    <tbody>
      ${rounds.map(({ number: round, scores }) => {
        const { shift, above } = told(scores);
        return html`<tr key=${round}>
          <th scope="row">${t("progress.round", { round })}</th>
          <td class="number">${shift}</td>
          <td class="number">${above}</td>
        </tr>`;
      })}
    </tbody>
  </table>`;
}
