// Raters: how far they agree, and how reliable and fast each is; quarantine and release.
import { html, useState } from "../kit.js";
import { place } from "../config.js";
import { Dialog } from "../parts.js";
import { number, percent, t } from "../words.js";
import { Act, Empty, Mark, Table, Waiting, act, amount, share, time, useView } from "./asking.js";

const FIRST = 25; // raters that are shown at once

export function Raters({ rest }) {
  const [search, setSearch] = useState(rest[0] ?? "");
  const [wanted, setWanted] = useState(search);
  const [found, problem, ask] = useView("operate_raters", wanted);
  const [held, setHeld] = useState(null);
  const [all, setAll] = useState(false);
  if (!found) return html`<${Waiting} problem=${problem} again=${ask} />`;
  const submit = (event) => (event.preventDefault(), setWanted(search));
  return html`<h2>${t("operator.tab.raters")}</h2>
    <${Agreement} found=${found} ask=${ask} />
    <form class="row" role="search" onSubmit=${submit}>
      <label class="field grow">${t("operator.raters.search")}
        <input type="search" value=${search} onInput=${(event) => setSearch(event.target.value)} />
      </label>
      <button type="submit" class="button bottom">${t("operator.search")}</button>
    </form>
    ${problem && html`<p class="bad" role="alert" dir="auto">${problem}</p>`}
    ${found.raters.length
      ? html`<${Table} caption=${t("operator.tab.raters")} rows=${all ? found.raters : found.raters.slice(0, FIRST)} columns=${columns(setHeld, ask)} />
          ${!all && found.raters.length > FIRST && html`<div><button type="button" class="button" onClick=${() => setAll(true)}>${t("operator.raters.all", { count: found.raters.length })}</button></div>`}`
      : html`<${Empty}>${t(wanted ? "operator.raters.nobody" : "operator.raters.none")}<//>`}
    ${held && html`<${Hold} rater=${held} close=${() => setHeld(null)} done=${ask} />`}`;
}

function Agreement({ found, ask }) {
  const { agreement } = found;
  const told =
    agreement.alpha == null
      ? t("operator.agreement.unknown", { reason: agreement.reason })
      : t("operator.agreement", { alpha: amount(agreement.alpha), low: amount(agreement.low), high: amount(agreement.high), raters: agreement.raters, subjects: agreement.subjects });
  return html`<div class="card stack">
    <p>${told}</p>
    <p class="quiet">${t("operator.raters.count", { all: found.all, held: found.quarantined, shown: found.raters.length })}${" "}
      <a href=${place("/operator/values")}>${t("page.values")}</a></p>
    <div><${Act} name="operate_assess" done=${ask} ask=${{
      title: t("operator.assess.title"),
      yes: t("operator.assess"),
      text: [t("operator.assess.text")],
    }}>${t("operator.assess")}<//></div>
  </div>`;
}

const columns = (hold, ask) => [
  { id: "id", name: t("operator.rater"), head: true, cell: (row) => html`<code class="id">${row.id}</code> <span class="quiet">${t(`operator.kind.${row.kind}`)}</span>` },
  { id: "state", name: t("operator.standing"), cell: (row) => html`<${Standing} row=${row} />` },
  { id: "said", name: t("operator.said"), cell: (row) => t("operator.said.told", { said: number(row.said, 1), weight: percent(row.weight) }) },
  { id: "agree", name: t("operator.agrees"), cell: (row) => share(row.agreement) },
  { id: "reliability", name: t("operator.reliability"), cell: (row) => html`${percent(row.reliability)}${row.gold_total > 0 && html` <span class="quiet">${t("operator.gold", { right: row.gold_right, total: row.gold_total })}</span>`}` },
  { id: "speed", name: t("operator.fast"), cell: (row) => share(row.fast_share) },
  { id: "left", name: t("operator.left_side"), cell: (row) => share(row.left_share) },
  { id: "do", name: t("operator.do"), cell: (row) => html`<${Decide} row=${row} hold=${hold} ask=${ask} />` },
];

function Standing({ row }) {
  if (row.quarantined_at)
    return html`<${Mark} state="rejected" word=${t("operator.quarantined")} /> <span class="quiet">${t("operator.quarantined.by", { by: row.decided_by, when: time(row.quarantined_at) })} <bdi>${row.reason}</bdi></span>`;
  if (!row.kind_trains)
    return html`<${Mark} state="waiting" word=${t("operator.not_trained")} /> <span class="quiet">${t("operator.not_trained.by")}</span>`;
  const notes = [row.found, ...row.notes, row.counts_as_one > 1 && t("operator.together", { count: row.counts_as_one - 1 })].filter(Boolean);
  return html`<${Mark} state=${row.found ? "failed" : "served"} word=${t(row.found ? "operator.suspect" : "operator.counts")} />
    ${notes.length > 0 && html` <span class="quiet"><bdi>${notes.join("; ")}</bdi></span>`}`;
}

function Decide({ row, hold, ask }) {
  if (!row.quarantined_at)
    return html`<button type="button" class="button small" aria-label=${t("operator.quarantine.of", { id: row.id })} onClick=${() => hold(row)}>${t("operator.quarantine")}</button>`;
  return html`<${Act} name="operate_release" data=${[row.id]} className="small" done=${ask} ask=${{
    title: t("operator.release.title"),
    yes: t("operator.release"),
    text: [row.id, t("operator.release.text")],
  }}>${t("operator.release")}<//>`;
}

/** Ask for the reason of a quarantine. */
function Hold({ rater, close, done }) {
  const [reason, setReason] = useState(rater.found ?? "");
  const go = async (event) => {
    event.preventDefault();
    if (await act("operate_quarantine", rater.id, reason)) (close(), done());
  };
  return html`<${Dialog} title=${t("operator.quarantine.title")} close=${close}>
    <form class="stack" onSubmit=${go}>
      <p><code class="id">${rater.id}</code></p>
      <p>${t("operator.quarantine.text")}</p>
      <label class="field">${t("operator.quarantine.reason")}
        <input value=${reason} required maxlength="200" onInput=${(event) => setReason(event.target.value)} />
      </label>
      <div class="row end">
        <button type="button" class="button" onClick=${close}>${t("page.cancel")}</button>
        <button type="submit" class="button primary">${t("operator.quarantine")}</button>
      </div>
    </form>
  <//>`;
}
