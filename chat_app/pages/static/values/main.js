// Whose values the model has: who votes, where they disagree, and what it still gets wrong.
import { html, mount, useEffect, useState } from "../kit.js";
import { call } from "../call.js";
import { config, place } from "../config.js";
import { Page } from "../page.js";
import { voters } from "../parts.js";
import { comma, has, lang, number, percent, t } from "../words.js";

const NO_SCRIPT = "Zyyy";
const scripts = new Intl.DisplayNames([lang], { type: "script" });
const ofOperator = config.events.startsWith("/operator");

function Values() {
  const [view, setView] = useState(null);
  const [problem, setProblem] = useState("");
  useEffect(() => {
    call("values_view").then(setView, (error) => setProblem(error.message));
  }, []);
  const back = ofOperator &&
    html`<a class="button small" href=${place("/operator/")}>${t("page.operator")}</a>`;
  return html`<${Page} here="values" bar=${back}>
    <main class="page values" id="main">
      <div class="stack lead">
        <h1>${t("values.heading")}</h1>
        <p class="quiet">${t("values.lead")}</p>
      </div>
      ${problem && html`<p class="card bad" role="alert" dir="auto">${problem}</p>`}
      ${!view && !problem && html`<p class="quiet">${t("page.loading")}</p>`}
      ${view && html`<${View} view=${view} />`}
    </main>
  <//>`;
}

function View({ view }) {
  const { portrait } = view;
  return html`<${Who} view=${view} />
    ${portrait.raters !== null &&
    html`<${Kinds} groups=${portrait.groups} />
      <${Scripts} parts=${portrait.scripts} />
      <${Agreement} view=${view} />`}
    ${portrait.questions.length > 0 && html`<${Questions} rates=${portrait.questions} />`}
    <${Faults} faults=${view.faults} version=${view.version} />
    <${Others} />
    <p class="quiet">${!ofOperator && t(view.public ? "values.public" : "values.private")}${" "}
      <a href=${place(ofOperator ? "/operator/progress" : "/progress")}>${t("page.progress")}</a></p>`;
}

function Section({ name, children }) {
  return html`<section class="card stack" aria-labelledby=${name}>
    <h2 id=${name}>${t(`values.${name}`)}</h2>
    ${children}
  </section>`;
}

/** A table whose first column names a row; `columns` are keys of words, `rows` have a name and cells. */
function Rows({ columns, rows }) {
  return html`<table class="table" role="table">
    <thead role="rowgroup">
      <tr role="row">
        ${columns.map((name) => html`<th scope="col" role="columnheader" key=${name}>${t(name)}</th>`)}
      </tr>
    </thead>
    <tbody role="rowgroup">
      ${rows.map(
        ({ name, cells }) => html`<tr role="row" key=${name}>
          <th scope="row" role="rowheader" dir="auto">${name}</th>
          ${cells.map(
            (cell, at) => html`<td role="cell" key=${at} data-label=${t(columns[at + 1])}>${cell}</td>`,
          )}
        </tr>`,
      )}
    </tbody>
  </table>`;
}

function Who({ view }) {
  const { portrait, fewest, newest } = view;
  if (portrait.raters === null)
    return html`<${Section} name="who"><p>${t(ofOperator ? "values.none" : "values.few", { fewest })}</p>
      ${portrait.programs > 0 && html`<p>${t("page.programs_vote", { n: portrait.programs })}</p>`}<//>`;
  const tops = portrait.tops.map(({ name, share }) => ({
    name: t(`values.top_${name}`),
    cells: [percent(share, share < 0.1 ? 1 : 0)],
  }));
  return html`<${Section} name="who">
    <p class="big">${voters(portrait.raters, portrait.programs)}</p>
    <p>${t("values.effective", { n: Math.round(portrait.effective) })}</p>
    ${tops.length > 0 &&
    html`<${Rows} columns=${["values.column_voters", "values.column_share"]} rows=${tops} />`}
    <p class="quiet">${t("values.votes", { n: portrait.votes })} ${t("values.newest", { newest })}</p>
  <//>`;
}

/** The name of a kind of rater; one that is new here has the name that the store gives it. */
const kind = (name) => (has(`values.kind_${name}`) ? t(`values.kind_${name}`) : name);
const source = (name) => (has(`values.source_${name}`) ? t(`values.source_${name}`) : name);
const script = (name) => {
  if (name === "other") return t("values.kind_other");
  return name === NO_SCRIPT ? t("values.no_script") : scripts.of(name);
};

const parts = (found, named) =>
  found.map(({ name, raters, share }) => ({
    name: named(name),
    cells: [number(raters), percent(share, share < 0.1 ? 1 : 0)],
  }));

function Kinds({ groups }) {
  return html`<${Section} name="kinds">
    <p class="quiet">${t("values.kinds_text")}</p>
    <${Rows} columns=${["values.column_kind", "values.column_voters", "values.column_share"]}
        rows=${parts(groups, kind)} />
  <//>`;
}

function Scripts({ parts: found }) {
  return html`<${Section} name="scripts">
    <p class="quiet">${t("values.scripts_text")}</p>
    <${Rows} columns=${["values.column_script", "values.column_voters", "values.column_share"]}
        rows=${parts(found, script)} />
  <//>`;
}

/** A share in words: "58% (51% to 65%)". */
function shareText({ value, low, high }) {
  if (low === null) return percent(value);
  if (high === null) return t("values.at_least", { value: percent(value), low: percent(low) });
  return t("values.interval", { value: percent(value), low: percent(low), high: percent(high) });
}

const rates = (found, named) =>
  found.map((rate) => ({ name: named(rate.name), cells: [shareText(rate), number(rate.pairs)] }));

function between(name) {
  const [one, other] = name.split("/").map(kind);
  return one === other ? t("values.among", { one }) : t("values.between", { one, other });
}

function Agreement({ view }) {
  const { agreement, by_source, by_script, between: groups } = view.portrait;
  if (agreement === null)
    return html`<${Section} name="agree"><p>${t(ofOperator ? "values.none_met" : "values.nobody_met", { fewest: view.fewest })}</p><//>`;
  const rows = [
    ...rates([agreement], () => t("values.all")),
    ...(by_source.length > 1 ? rates(by_source, source) : []),
    ...(by_script.length > 1 ? rates(by_script, script) : []),
    ...rates(groups, between),
  ];
  return html`<${Section} name="agree">
    <p class="quiet">${t("values.agree_text")}</p>
    <${Rows} columns=${["values.column_of", "values.column_agree", "values.column_pairs"]} rows=${rows} />
  <//>`;
}

function Questions({ rates: found }) {
  return html`<${Section} name="questions">
    <p class="quiet">${t("values.questions_text")}</p>
    <${Rows} columns=${["values.column_question", "values.column_agree", "values.column_pairs"]}
        rows=${rates(found, (name) => name)} />
  <//>`;
}

function Faults({ faults, version }) {
  if (faults === null) return html`<${Section} name="wrong"><p>${t("values.wrong_none")}</p><//>`;
  const { preferred, foretold, probes, alarms, round } = faults;
  const rows = probes.map(({ kind: name, share, asked }) => ({
    name: t(`values.probe_${name}`),
    cells: [shareText(share), asked === null ? "" : number(asked)],
  }));
  return html`<${Section} name="wrong">
    <p class="quiet">${t("values.wrong_text", { version: version.number, round })}</p>
    ${rows.length > 0 &&
    html`<${Rows} columns=${["values.column_probe", "values.column_passed", "values.column_asked"]} rows=${rows} />`}
    ${preferred && html`<p>${t("values.preferred", { share: shareText(preferred) })}</p>`}
    ${foretold && html`<p>${t("values.foretold", { share: shareText(foretold) })}</p>`}
    <p>
      ${alarms.length === 0
        ? t("values.no_alarms")
        : `${t("values.alarms")} ${alarms.map((name) => t(`values.alarm_${name}`)).join(comma)}`}
    </p>
  <//>`;
}

function Others() {
  return html`<${Section} name="others">
    <ul>
      ${["base", "operator", "asked", "silent"].map(
        (who) => html`<li key=${who}>${t(`values.others_${who}`)}</li>`,
      )}
    </ul>
  <//>`;
}

mount(Values);
