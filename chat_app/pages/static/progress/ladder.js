// How far each version is above version 1: an estimate by a chain of tests, with its interval.
import { html } from "../kit.js";
import { percent, t, when } from "../words.js";
import { Interval, shareText } from "./interval.js";

export function Ladder({ rungs }) {
  if (rungs.length < 2) return null;
  return html`<section class="card stack" aria-labelledby="ladder">
    <h2 id="ladder">${t("progress.ladder")}</h2>
    <p class="quiet">${t("progress.ladder_text")}</p>
    <table class="table ladder" role="table">
      <thead role="rowgroup">
        <tr role="row">
          <th scope="col" role="columnheader">${t("progress.column_version")}</th>
          <th scope="col" role="columnheader">
            ${t("progress.column_estimate")}
            <span class="scale" aria-hidden="true">
              <span>${percent(0)}</span><span>${percent(0.5)}</span><span>${percent(1)}</span>
            </span>
          </th>
          <th scope="col" role="columnheader">${t("progress.column_since")}</th>
        </tr>
      </thead>
      <tbody role="rowgroup">
        ${[...rungs].reverse().map((rung) => html`<${Rung} rung=${rung} key=${rung.version} />`)}
      </tbody>
    </table>
  </section>`;
}

function Rung({ rung }) {
  const share = rung.against_first;
  return html`<tr role="row">
    <th scope="row" role="rowheader">
      <span class="row">
        ${t("progress.version", { version: rung.version })}
        ${rung.served && html`<span class="pill">${t("progress.answers_now")}</span>`}
      </span>
    </th>
    <td role="cell" data-label=${t("progress.column_estimate")}>
      ${share === null
        ? html`<span class="quiet">${t("progress.no_test")}</span>`
        : html`<span class="share">
            <${Interval} share=${share} width=${240} />
            <span class="number">${rung.version === 1 ? t("progress.itself") : shareText(share)}</span>
          </span>`}
    </td>
    <td role="cell" data-label=${t("progress.column_since")}>${when(rung.since)}</td>
  </tr>`;
}
