// One trial: what people compare, the numbers in words, the path of the evidence, the verdict.
import { html } from "../kit.js";
import { number, percent, t } from "../words.js";
import { Act, Mark, Recorded, short, time, version } from "./asking.js";
import { Evidence } from "./plots.js";

export function Trial({ trial, look, className = "card" }) {
  const open = trial.ended_at === null;
  const names = {
    one: version(trial.number, trial.adapter),
    other: version(trial.other_number, trial.other),
  };
  const { evidence } = trial;
  return html`<section class=${`${className} stack trial`} aria-label=${t(`operator.trial.${trial.kind}`, names)}>
    <h3>
      ${t(`operator.trial.${trial.kind}`, names)}${" "}
      ${!open && html`<${Mark} state=${trial.outcome} />`}
    </h3>
    <p class="quiet">
      ${open
        ? t("operator.trial.since", { when: time(trial.started_at) })
        : t("operator.trial.ended", { when: time(trial.ended_at) })}${" "}
      ${open && t(`operator.trial.${trial.kind}.why`, names)}
    </p>
    ${!open &&
    html`<p>
      <strong>${t(`operator.outcome.${trial.kind}.${trial.outcome}`, names)}</strong>${" "}
      <${Recorded}>${versioned(trial)}<//>
    </p>`}
    ${evidence.choices
      ? html`<p>
            ${t("operator.trial.told", {
              ...names,
              share: percent(evidence.rate),
              choices: evidence.choices,
              raters: evidence.raters,
            })}${" "}
            ${t("operator.trial.evidence", {
              better: short(evidence.better),
              worse: short(evidence.worse),
              enough: number(trial.enough),
            })}
          </p>
          <${Evidence} points=${trial.path} enough=${trial.enough} />`
      : html`<p>${t("operator.trial.nobody")}</p>`}
    ${open &&
    html`<p class="quiet">
        ${t("operator.trial.limit", { most: trial.most, days: number(trial.days, 1) })}
      </p>
      <div><${Act} name="operate_stop_trial" done=${look} ask=${{
        title: t("operator.trial.stop.title"),
        yes: t("operator.trial.stop"),
        text: [t("operator.trial.stop.text")],
      }}>${t("operator.trial.stop")}<//></div>`}
  </section>`;
}

/** Why it ended, as it was recorded, with the numbers of the versions before their names. */
function versioned(trial) {
  const names = [[trial.adapter, trial.number], [trial.other, trial.other_number]];
  return names.reduce(
    (text, [name, number_]) =>
      number_ == null ? text : text.replaceAll(name, `version ${number_} (${name})`),
    trial.reason ?? "",
  );
}
