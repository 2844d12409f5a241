// Versions: every adapter with its stage, what can be done with one, and the trials.
import { html, useState } from "../kit.js";
import { Confirm } from "../parts.js";
import { percent, said, t } from "../words.js";
import { Empty, Mark, Table, Waiting, act, time, useAgain, useView, version } from "./asking.js";
import { Forced } from "./now.js";
import { Trial } from "./trial.js";

export function Versions({ view: now, look }) {
  const [found, problem, ask] = useView("operate_versions");
  const { served, trial, last } = now ?? {};
  useAgain(ask, now && [served.since, trial?.id, trial?.evidence.choices, last?.id].join(" "));
  const again = () => (ask(), look());
  if (!found) return html`<${Waiting} problem=${problem} again=${ask} />`;
  const forced = found.adapters.filter((one) => one.forced);
  return html`<h2>${t("operator.tab.versions")}</h2>
    <${Choose} adapters=${found.adapters} done=${again} />
    <${Table} caption=${t("operator.tab.versions")} rows=${found.adapters} columns=${columns()} keyOf=${(row) => row.name} />
    ${forced.map((one) => html`<div key=${one.name}><h3>${version(one.number, one.name)}</h3><${Forced} forced=${one.forced} /></div>`)}
    <h2>${t("operator.trials")}</h2>
    ${found.trials.length
      ? found.trials.map((trial) => html`<${Trial} key=${trial.id} trial=${trial} look=${again} />`)
      : html`<${Empty}>${t("operator.trials.none")}<//>`}`;
}

const columns = () => [
  { id: "name", name: t("operator.adapter"), head: true, cell: (row) => html`${version(row.number, row.name)} ${row.number != null && html`<span class="pill">${row.name}</span>`}` },
  { id: "stage", name: t("operator.stage"), cell: (row) => html`<${Mark} state=${row.stage} />${row.forced && html` <span class="mark bad">⚠ ${t("operator.forced.mark")}</span>`}${row.anchor && html` <span class="pill">${t("operator.anchor")}</span>`}` },
  { id: "win", name: t("operator.win_rate"), cell: (row) => (row.preferred == null ? "–" : percent(row.preferred)) },
  { id: "from", name: t("operator.parent"), cell: (row) => row.parent ?? "–" },
  { id: "cycle", name: t("operator.round"), cell: (row) => (row.cycle_id == null ? "–" : html`<a href=${`#rounds/${row.cycle_id}`}>${t("operator.round.number", { id: row.cycle_id })}</a>`) },
  { id: "at", name: t("operator.created"), cell: (row) => html`${time(row.created_at)}${row.tainted_at && html` <span class="wait">${t("operator.tainted")}</span>`}` },
];

/** Choose an adapter; only then it can be served or tried. */
function Choose({ adapters, done }) {
  const [name, setName] = useState("");
  const [asked, setAsked] = useState(null); // "promote" or "canary"
  const choices = adapters.filter((one) => one.choosable);
  const chosen = choices.find((one) => one.name === name);
  if (!choices.length) return html`<p class="quiet">${t("operator.choose.none")}</p>`;
  return html`<div class="card stack">
    <label class="field">
      ${t("operator.choose")}
      <select value=${name} onChange=${(event) => setName(event.target.value)}>
        <option value="">${t("operator.choose.first")}</option>
        ${choices.map((one) => html`<option key=${one.name} value=${one.name}>${labelled(one)}</option>`)}
      </select>
    </label>
    <div class="row">
      <button type="button" class="button primary" disabled=${!chosen} onClick=${() => setAsked("promote")}>${t("operator.promote")}</button>
      <button type="button" class="button" disabled=${!chosen} onClick=${() => setAsked("canary")}>${t("operator.canary")}</button>
    </div>
    ${asked && chosen && html`<${Ask} what=${asked} chosen=${chosen} close=${() => setAsked(null)} done=${() => (setName(""), done())} />`}
  </div>`;
}

const labelled = (one) => {
  const name = one.number == null ? one.name : `${version(one.number)} (${one.name})`;
  return `${name} · ${t(`operator.state.${one.stage}`)}`;
};

/** The question before it; for one that the gate rejected, with its reasons and a tick. */
function Ask({ what, chosen, close, done }) {
  const [force, setForce] = useState(false);
  const [missing, setMissing] = useState(false);
  const name = version(chosen.number, chosen.name);
  const go = async () => {
    if (chosen.warning && !force) return setMissing(true);
    close();
    await act(`operate_${what}`, chosen.name, force);
    done();
  };
  return html`<${Confirm} title=${t(`operator.${what}.title`, { name })} yes=${t(`operator.${what}.yes`)}
      danger=${!!chosen.warning} act=${go} close=${close}>
    <p>${t(`operator.${what}.text`)}</p>
    ${chosen.warning &&
    html`<p class="bad" role="alert" dir="auto">${said(chosen.warning)}</p>
      <label class="row">
        <input type="checkbox" checked=${force} aria-invalid=${missing && !force} onChange=${(event) => setForce(event.target.checked)} />
        ${t(`operator.${what}.anyway`)}
      </label>
      ${missing && !force && html`<p class="bad" role="alert">${t("operator.tick")}</p>`}`}
  <//>`;
}
