// The rounds, a row each: what was tested, what people chose, and what came of it.
import { html } from "../kit.js";
import { comma, percent, t, when } from "../words.js";
import { Interval, shareText } from "./interval.js";

const COLUMNS = ["round", "verdict", "votes", "test", "live", "probes"];

export function Rounds({ rounds }) {
  return html`<section class="card stack" aria-labelledby="rounds">
    <h2 id="rounds">${t("progress.rounds")}</h2>
    <p class="quiet">${t("progress.rounds_text")}</p>
    <table class="table rounds" role="table">
      <thead role="rowgroup">
        <tr role="row">
          ${COLUMNS.map(
            (name) => html`<th scope="col" role="columnheader" key=${name}>${t(`progress.column_${name}`)}</th>`,
          )}
        </tr>
      </thead>
      <tbody role="rowgroup">
        ${rounds.map((round) => html`<${Row} round=${round} key=${round.number} />`)}
      </tbody>
    </table>
  </section>`;
}

function Row({ round }) {
  const cell = (name, content) =>
    html`<td role="cell" data-label=${t(`progress.column_${name}`)} class=${content ? "" : "none"}>
      ${content || html`<span class="quiet">${t("progress.none")}</span>`}
    </td>`;
  return html`<tr role="row">
    <th scope="row" role="rowheader">
      ${t("progress.round", { round: round.number })}
      <span class="quiet">${when(round.at)}</span>
    </th>
    ${cell("verdict", html`<${Verdict} round=${round} />`)}
    ${cell("votes", round.votes !== null && html`<span class="number">${t("progress.count", { count: round.votes })}</span>`)}
    ${cell("test", round.win_rate && html`<${Shown} share=${round.win_rate} />`)}
    ${cell("live", round.live && html`<${Live} live=${round.live} />`)}
    ${cell("probes", round.probes.length > 0 && html`<${Probes} probes=${round.probes} />`)}
  </tr>`;
}

const GOOD = ["promoted"];
const OPEN = ["running", "canary", "waiting"];

function Verdict({ round }) {
  const sign = GOOD.includes(round.outcome) ? "✓" : OPEN.includes(round.outcome) ? "…" : "–";
  const look = GOOD.includes(round.outcome) ? "good" : OPEN.includes(round.outcome) ? "wait" : "";
  return html`<span class=${`verdict ${look}`}>
    <span aria-hidden="true">${sign}</span> <span>${verdict(round)}</span>
  </span>`;
}

function verdict({ outcome, cause, liked, version, before }) {
  if (outcome === "rejected" && cause === null) return t("progress.outcome_rejected_unknown");
  const key = outcome === "rejected" && liked ? "rejected_liked" : outcome;
  const why = cause === null ? "" : t(`progress.cause_${cause}`);
  return t(`progress.outcome_${key}`, { cause: why, version, before });
}

function Shown({ share }) {
  return html`<span class="share"><${Interval} share=${share} /><span class="number">${shareText(share)}</span></span>`;
}

function Live({ live }) {
  const many = [t("progress.choices", { n: live.choices }), t("progress.by_raters", { n: live.raters })];
  return html`${live.share && html`<${Shown} share=${live.share} />`}
    <span class="quiet">${many.join(comma)}${live.open ? ` ${t("progress.so_far")}` : ""}</span>
    ${live.open && html`<span class="quiet">${t("progress.shown_later")}</span>`}`;
}

function Probes({ probes }) {
  const mean = (name) => probes.reduce((sum, probe) => sum + probe[name], 0) / probes.length;
  return html`<span class="number">
    ${t("progress.probes_right", { now: percent(mean("candidate")), before: percent(mean("served")) })}
  </span>`;
}
