// Settings in force: each option with its value and where that comes from.
import { html, useState } from "../kit.js";
import { t } from "../words.js";
import { Empty, Table, Waiting, useView } from "./asking.js";

export function Settings() {
  const [found, problem, ask] = useView("operate_options");
  const [search, setSearch] = useState("");
  const [only, setOnly] = useState(false);
  if (!found) return html`<${Waiting} problem=${problem} again=${ask} />`;
  const words = search.trim().toLowerCase();
  const rows = found.options.filter(
    (one) => (!only || one.source !== "default") && `${one.name} ${one.meaning}`.toLowerCase().includes(words),
  );
  return html`<h2>${t("operator.tab.settings")}</h2>
    <p class="quiet">${found.file ? t("operator.settings.file", { file: found.file }) : t("operator.settings.no_file")} ${t("operator.settings.profile", { profile: found.profile })} ${t("operator.settings.change")}</p>
    <div class="row">
      <label class="field grow">${t("operator.settings.search")}
        <input type="search" value=${search} onInput=${(event) => setSearch(event.target.value)} />
      </label>
      <button type="button" class="chip bottom" aria-pressed=${only} onClick=${() => setOnly(!only)}>${t("operator.settings.only")}</button>
    </div>
    ${rows.length
      ? grouped(rows).map(([name, group]) => html`<${Section} key=${name} name=${name} rows=${group} open=${only || words !== ""} />`)
      : html`<${Empty}>${t("operator.settings.none")}<//>`}`;
}

/** The options by their sections, such as `cycle.policy`. */
function grouped(rows) {
  const groups = new Map();
  for (const row of rows) {
    const name = row.name.split(".").slice(0, -1).join(".");
    groups.set(name, [...(groups.get(name) ?? []), row]);
  }
  return [...groups];
}

function Section({ name, rows, open }) {
  const changed = rows.filter((row) => row.source !== "default").length;
  return html`<details class="section" open=${open}>
    <summary>
      <strong>${name ? html`<code class="id">${name}</code>` : t("operator.settings.top")}</strong>
      <span class="quiet">${t("operator.settings.count", { count: rows.length, changed })}</span>
    </summary>
    <${Table} caption=${name || t("operator.settings.top")} rows=${rows} keyOf=${(row) => row.name} columns=${columns()} />
  </details>`;
}

const columns = () => [
  { id: "name", name: t("operator.option"), head: true, cell: (row) => html`<code class="id">${row.name}</code>` },
  { id: "value", name: t("operator.value"), cell: value },
  { id: "source", name: t("operator.source"), cell: (row) => html`<span class=${row.source === "default" ? "quiet" : ""}>${t(`operator.source.${row.source}`)}</span>` },
  { id: "meaning", name: t("operator.meaning"), cell: (row) => html`<bdi class="quiet">${row.meaning}</bdi>` },
];

function value(row) {
  if (row.secret) return html`<span class="quiet">${t(row.is_set ? "operator.secret" : "operator.unset")}</span>`;
  if (!row.is_set || row.value === "") return html`<span class="quiet">${t("operator.unset")}</span>`;
  return html`<code class="id">${row.value}</code>`;
}
