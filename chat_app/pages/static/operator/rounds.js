// Rounds: the cycles with their verdicts; a cycle's report, with checks in words, plots, samples.
import { html } from "../kit.js";
import { t } from "../words.js";
import { checkText } from "./alarm.js";
import {
  Empty, Mark, Recorded, Table, Waiting, lasting, share, short, time, useAgain, useView, version,
} from "./asking.js";
import { Scores, Training, WinRate } from "./plots.js";

export function Rounds({ view: now, rest, go }) {
  const [rounds, problem, ask] = useView("operate_rounds");
  useAgain(ask, now && `${now.state} ${now.last?.id} ${now.last?.state}`);
  if (rest[0]) return html`<${Report} id=${Number(rest[0])} go=${go} />`;
  if (!rounds) return html`<${Waiting} problem=${problem} again=${ask} />`;
  if (!rounds.length)
    return html`<${Empty}>${t("operator.first", { count: now?.comparisons ?? 0 })}<//>`;
  return html`<h2>${t("operator.tab.rounds")}</h2>
    <${Table} caption=${t("operator.tab.rounds")} rows=${rounds} columns=${columns()} />`;
}

const columns = () => [
  {
    id: "id",
    name: t("operator.round"),
    head: true,
    cell: ({ id }) => html`<a href=${`#rounds/${id}`}>${t("operator.round.number", { id })}</a>`,
  },
  { id: "state", name: t("operator.verdict"), cell: (row) => html`<${Mark} state=${row.state} />` },
  { id: "win", name: t("operator.win_rate"), cell: winRate },
  {
    id: "made",
    name: t("operator.made"),
    cell: (row) => (row.adapter ? version(row.number, row.adapter) : "–"),
  },
  {
    id: "at",
    name: t("operator.started"),
    cell: (row) => html`${time(row.started_at)}
      ${row.seconds != null && html` <span class="quiet">(${lasting(row.seconds)})</span>`}`,
  },
  {
    id: "why",
    name: t("operator.reasons"),
    cell: (row) =>
      row.reasons.length ? html`<${Recorded}>${row.reasons.join("; ")}<//>` : "–",
  },
];

function winRate({ win_rate: rate, win_rate_low: low }) {
  if (rate == null) return "–";
  return t("operator.at_least", { share: share(rate), low: share(low) });
}

function Report({ id, go }) {
  const [found, problem, ask] = useView("operate_report", id);
  const back = html`<div>
    <button type="button" class="button small" onClick=${() => go("rounds")}>
      ${t("operator.rounds.all")}
    </button>
  </div>`;
  if (!found) return html`${back}<${Waiting} problem=${problem} again=${ask} />`;
  const { round, report } = found;
  return html`${back}
    <h2>${t("operator.report.of", { id })} <${Mark} state=${round.state} /></h2>
    <p class="quiet">
      ${time(round.started_at)} · ${lasting(round.seconds)}
      ${round.adapter &&
      html` · ${version(round.number, round.adapter)}${" "}
        ${round.number != null && html`<span class="pill">${round.adapter}</span>`}`}
    </p>
    ${report ? html`<${Evaluated} found=${found} />` : html`<${Unevaluated} round=${round} />`}`;
}

function Unevaluated({ round }) {
  return html`<div class="card stack">
    <p>${t("operator.report.none")}</p>
    <${Reasons} reasons=${round.reasons} />
  </div>`;
}

/** Reasons as they were recorded. */
function Reasons({ reasons }) {
  if (!reasons.length) return null;
  return html`<ul>
    ${reasons.map((reason) => html`<li key=${reason}><${Recorded}>${reason}<//></li>`)}
  </ul>`;
}

function Evaluated({ found }) {
  const { report, looks, facts } = found;
  const { metrics } = report;
  const kept = (values) => values.filter(Number.isFinite);
  const [served, candidate] = [kept(report.scores_served), kept(report.scores_candidate)];
  const [scores, kls] = [kept(report.score_per_iteration), kept(report.kl_per_iteration)];
  const passed = report.checks.filter((check) => check.passed);
  const failed = report.checks.filter((check) => !check.passed);
  const told = failed.map(checkText).filter(Boolean);
  return html`<section class="card stack" aria-labelledby="verdict">
      <h3 id="verdict" class=${report.reasons.length ? "bad" : "good"}>
        ${report.reasons.length
          ? t("operator.report.rejected", { n: report.reasons.length })
          : t("operator.report.passed", { n: passed.length })}
      </h3>
      ${told.length > 0 && told.length === failed.length
        ? html`<ul>${told.map((text) => html`<li key=${text}>${text}</li>`)}</ul>`
        : html`<${Reasons} reasons=${report.reasons} />`}
      ${report.alarms.map(
        (alarm) => html`<p class="bad" key=${alarm}>
          ${t("operator.report.alarm")} <${Recorded}>${alarm}<//>
        </p>`,
      )}
      ${facts.map((fact) => html`<p class="quiet" key=${fact}><${Recorded}>${fact}<//></p>`)}
    </section>
    <div class="plots">
      ${metrics.win_rate != null && html`<${WinRate} rate=${metrics.win_rate} low=${metrics.win_rate_low ?? metrics.win_rate} high=${metrics.win_rate_high ?? metrics.win_rate} />`}
      ${served.length > 0 && candidate.length > 0 && html`<${Scores} served=${served} candidate=${candidate} />`}
      ${scores.length > 0 && kls.length > 0 && html`<${Training} scores=${scores} kls=${kls} />`}
    </div>
    <h3>${t("operator.checks")}</h3>
    <${Table} caption=${t("operator.checks")} rows=${[...failed, ...passed]}
        keyOf=${(row) => row.name} columns=${checkColumns()} />
    ${looks.length > 0 && html`<h3>${t("operator.looks")}</h3>
      <${Table} caption=${t("operator.looks")} rows=${looks} keyOf=${(row) => row.name} columns=${[
        { id: "name", name: t("operator.look"), head: true, cell: (row) => named("operator.look.", row.name) },
        { id: "served", name: t("operator.served"), cell: (row) => html`<span class="number">${shown(row.name, row.served)}</span>` },
        { id: "candidate", name: t("operator.candidate"), cell: (row) => html`<span class="number">${shown(row.name, row.candidate)}</span>` },
      ]} />`}
    ${report.samples.length > 0 && html`<h3>${t("operator.samples")}</h3>
      <${Table} caption=${t("operator.samples")} rows=${report.samples} keyOf=${(row) => row.prompt} columns=${[
        { id: "prompt", name: t("operator.prompt"), head: true, cell: (row) => html`<span dir="auto">${row.prompt}</span>` },
        { id: "served", name: t("operator.served"), cell: (row) => html`<span class="said" dir="auto">${row.served}</span>` },
        { id: "candidate", name: t("operator.candidate"), cell: (row) => html`<span class="said" dir="auto">${row.candidate}</span>` },
      ]} />`}`;
}

const checkColumns = () => [
  {
    id: "passed",
    name: t("operator.check.passed"),
    cell: ({ passed }) => html`<${Mark} state=${passed ? "passed" : "failed"}
        word=${t(passed ? "operator.check.yes" : "operator.check.no")} />`,
  },
  {
    id: "name",
    name: t("operator.check"),
    head: true,
    cell: (row) => named("operator.check.", row.name),
  },
  {
    id: "text",
    name: t("operator.check.found"),
    cell: (row) => html`${checkText(row)} <${Recorded}>${besides(row)}<//>`,
  },
];

/** What the gate noted of a check besides its numbers. */
const besides = ({ name, text }) => (text.startsWith(name.replaceAll("_", " ")) ? "" : text);

const shown = (name, value) => (name.endsWith("_rate") ? share(value) : short(value));

/** The words for a name of the server; a new name is shown as it is. */
function named(prefix, name) {
  const text = t(prefix + name);
  return text === prefix + name ? name.replaceAll("_", " ") : text;
}
