// Before and after: replies to a few fixed questions, and shares of right replies, of one round.
import { html, useState } from "../kit.js";
import { Markdown } from "../markdown.js";
import { percent, t } from "../words.js";

export function Samples({ rounds }) {
  const asked = rounds.filter((round) => round.probes.length > 0);
  const served = asked.find((round) => round.version !== null) ?? asked[0];
  const [chosen, choose] = useState(null);
  if (!served) return null;
  const round = asked.find(({ number }) => number === chosen) ?? served;
  return html`<section class="card stack" aria-labelledby="samples">
    <h2 id="samples">${t("progress.samples")}</h2>
    <p class="quiet">${t("progress.samples_text")}</p>
    <label class="field choose">
      ${t("progress.choose_round")}
      <select value=${round.number} onChange=${(event) => choose(Number(event.target.value))}>
        ${asked.map(
          ({ number, version }) => html`<option value=${number} key=${number}>
            ${t(version === null ? "progress.round" : "progress.round_version", { round: number, version })}
          </option>`,
        )}
      </select>
    </label>
    ${round.samples.length === 0
      ? html`<p class="quiet">${t("progress.no_samples")}</p>`
      : round.samples.map((sample) => html`<${Sample} sample=${sample} key=${sample.kind} />`)}
    <${Probes} probes=${round.probes} />
  </section>`;
}

function Sample({ sample }) {
  const before = sample.prompt.slice(0, -1);
  const question = sample.prompt.at(-1);
  return html`<article class="sample stack">
    <h3>${t(`progress.kind_${sample.kind}`)}</h3>
    <div class="asked">
      ${before.map(
        (turn, at) => html`<p class="quiet" key=${at}>
          ${t(turn.role === "user" ? "progress.visitor_said" : "progress.model_said")}${" "}
          <span dir="auto">${turn.content}</span>
        </p>`,
      )}
      <p><b dir="auto">${question?.content}</b></p>
    </div>
    <div class="sides">
      <${Reply} name="before_round" text=${sample.served} right=${sample.served_right} />
      <${Reply} name="after_round" text=${sample.candidate} right=${sample.candidate_right} />
    </div>
  </article>`;
}

function Reply({ name, text, right }) {
  return html`<div class="reply">
    <p class="row apart">
      <span class="quiet">${t(`progress.${name}`)}</span>
      <span class=${right ? "good" : "bad"}>
        <span aria-hidden="true">${right ? "✓" : "✗"}</span> ${t(right ? "progress.right" : "progress.wrong")}
      </span>
    </p>
    <${Markdown} text=${text} />
  </div>`;
}

function Probes({ probes }) {
  return html`<table class="table probes">
    <caption>${t("progress.probes_caption")}</caption>
    <thead>
      <tr>
        <th scope="col">${t("progress.column_kind")}</th>
        <th scope="col">${t("progress.before_round")}</th>
        <th scope="col">${t("progress.after_round")}</th>
      </tr>
    </thead>
    <tbody>
      ${probes.map(
        ({ kind, served, candidate }) => html`<tr key=${kind}>
          <th scope="row">${t(`progress.kind_${kind}`)}</th>
          <td class="number">${percent(served)}</td>
          <td class="number">${percent(candidate)}</td>
        </tr>`,
      )}
    </tbody>
  </table>`;
}
