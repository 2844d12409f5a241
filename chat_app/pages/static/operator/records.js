// What was done and what went wrong: the audit log, alarms, backups.
import { html, useEffect, useState } from "../kit.js";
import { call } from "../call.js";
import { t } from "../words.js";
import { alarmText } from "./alarm.js";
import {
  Act, Empty, Recorded, Table, Waiting, size, time, useAgain, useView,
} from "./asking.js";

export function Audit() {
  const [pages, setPages] = useState(null);
  const [problem, setProblem] = useState("");
  const ask = async (before = null) => {
    try {
      const page = await call("operate_audit", before);
      setPages((old) => ({ ...page, lines: before === null ? page.lines : [...old.lines, ...page.lines] }));
      setProblem("");
    } catch (error) {
      setProblem(error.message);
    }
  };
  useEffect(() => {
    ask();
  }, []);
  if (!pages) return html`<${Waiting} problem=${problem} again=${() => ask()} />`;
  return html`<h2>${t("operator.tab.audit")}</h2>
    ${pages.lines.length
      ? html`<${Table} caption=${t("operator.tab.audit")} rows=${pages.lines} columns=${[
          { id: "at", name: t("operator.when"), cell: (row) => time(row.at) },
          { id: "act", name: t("operator.act"), head: true, cell: (row) => named(row.action) },
          { id: "by", name: t("operator.by"), cell: (row) => html`<bdi>${row.by || "–"}</bdi>` },
          { id: "about", name: t("operator.about"), cell: (row) => row.about && html`<bdi>${row.about}</bdi>` },
        ]} />`
      : html`<${Empty}>${t("operator.audit.none")}<//>`}
    ${problem && html`<p class="bad" role="alert" dir="auto">${problem}</p>`}
    ${pages.more != null && html`<div><button type="button" class="button" onClick=${() => ask(pages.more)}>${t("operator.more")}</button></div>`}`;
}

function named(action) {
  const text = t(`operator.act.${action}`);
  return text.startsWith("operator.") ? action.replaceAll("_", " ") : text;
}

export function Alerts({ view }) {
  const [found, problem, ask] = useView("operate_alarms");
  useAgain(ask, view?.condition.alarms.length); // a new one is shown without a reload
  if (!found) return html`<${Waiting} problem=${problem} again=${ask} />`;
  const sent = found.sent_to ? t(`operator.alerts.${found.sent_to}`) : t("operator.alerts.shown");
  return html`<h2>${t("operator.alerts.open")}</h2>
    <p class="quiet">${t("operator.alerts.what")} ${sent}</p>
    ${found.open.length ? html`<${Alarms} rows=${found.open} name=${t("operator.alerts.open")} />` : html`<p>${t("operator.alerts.none")}</p>`}
    <h2>${t("operator.alerts.past")}</h2>
    ${found.past.length ? html`<${Alarms} rows=${found.past} name=${t("operator.alerts.past")} />` : html`<p class="quiet">${t("operator.alerts.no_past")}</p>`}`;
}

function Alarms({ rows, name }) {
  return html`<${Table} caption=${name} rows=${rows} columns=${[
    { id: "at", name: t("operator.when"), cell: (row) => time(row.raised_at) },
    { id: "kind", name: t("operator.alarm"), head: true, cell: (row) => t(`operator.alarm.${row.kind}`) },
    {
      id: "text",
      name: t("operator.text"),
      cell: (row) => html`${alarmText(row)} <${Recorded}>${row.text}<//>`,
    },
    {
      id: "cycle",
      name: t("operator.round"),
      cell: ({ cycle_id: id }) =>
        id == null ? "–" : html`<a href=${`#rounds/${id}`}>${t("operator.round.number", { id })}</a>`,
    },
  ]} />`;
}

export function Backups() {
  const [found, problem, ask] = useView("operate_backups");
  if (!found) return html`<${Waiting} problem=${problem} again=${ask} />`;
  return html`<h2>${t("operator.tab.backups")}</h2>
    <div class="card stack">
      <p>${t("operator.backups.what", { folder: found.folder })}</p>
      <p>${t(found.by_itself ? "operator.backups.by_itself" : "operator.backups.by_hand")}
        ${" "}${found.verified_at && t("operator.backups.verified", { time: time(found.verified_at) })}</p>
      <div><${Act} name="operate_back_up" className="primary" done=${ask}>${t("operator.back_up")}<//></div>
    </div>
    ${found.copies.length
      ? html`<${Table} caption=${t("operator.tab.backups")} rows=${found.copies} keyOf=${(row) => row.path + row.at} columns=${[
          { id: "at", name: t("operator.when"), cell: (row) => time(row.at) },
          { id: "kind", name: t("operator.copy"), cell: (row) => t(`operator.copy.${row.kind}`) },
          { id: "path", name: t("operator.path"), head: true, cell: (row) => html`<code class="id">${row.path}</code>` },
          { id: "size", name: t("operator.size"), cell: (row) => (row.bytes == null ? html`<span class="wait">${t("operator.copy.gone")}</span>` : size(row.bytes)) },
        ]} />`
      : html`<${Empty}>${t("operator.backups.none")}<//>`}`;
}
