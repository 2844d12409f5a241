// The progress page: how people's votes change the model, round by round.
import { html, mount, useEffect, useState } from "../kit.js";
import { call } from "../call.js";
import { config, place } from "../config.js";
import { Page } from "../page.js";
import { voters } from "../parts.js";
import { has, percent, t, when } from "../words.js";
import { Ladder } from "./ladder.js";
import { NextRound } from "./next.js";
import { Rounds } from "./rounds.js";
import { Samples } from "./samples.js";
import { ScoreCharts } from "./scores.js";

const REFRESH_MS = 30_000;
const ofOperator = config.events.startsWith("/operator");

function Progress() {
  const [view, setView] = useState(null);
  const [problem, setProblem] = useState("");
  const load = async () => {
    try {
      setView(await call("progress_view"));
      setProblem("");
    } catch (error) {
      setProblem(error.message);
    }
  };
  useEffect(() => {
    load();
    const timer = setInterval(() => document.hidden || load(), REFRESH_MS);
    return () => clearInterval(timer);
  }, []);
  const back = ofOperator &&
    html`<a class="button small" href=${place("/operator/")}>${t("page.operator")}</a>`;
  return html`<${Page} here="progress" bar=${back}>
    <main class="page progress" id="main">
      <div class="stack lead">
        <h1>${t("progress.heading")}</h1>
        <p class="quiet">${t("progress.lead")}</p>
      </div>
      ${problem && html`<p class="card bad" role="alert" dir="auto">${problem}</p>`}
      ${!view && !problem && html`<p class="quiet">${t("page.loading")}</p>`}
      ${view && html`<${View} view=${view} />`}
    </main>
  <//>`;
}

function View({ view }) {
  const tested = view.rounds.filter((round) => round.win_rate);
  return html`<div class="facts">
      <${Now} version=${view.version} />
      <${NextRound} next=${view.next} />
      <${Whose} values=${view.values} />
    </div>
    ${view.rounds.length === 0
      ? html`<${Empty} />`
      : html`<${Rounds} rounds=${view.rounds} />
          <${Ladder} rungs=${view.ladder} />
          <${ScoreCharts} rounds=${tested.filter((round) => round.scores)} />
          <${Samples} rounds=${tested} />`}
    <p class="quiet">${t(view.public ? "progress.public" : "progress.private")}</p>`;
}

function Now({ version }) {
  return html`<section class="card stack" aria-labelledby="now">
    <h2 id="now">${t("progress.now")}</h2>
    <p class="big">${t("progress.version", { version: version.number })}</p>
    <p class="quiet">
      ${t("progress.since", { when: when(version.since) })}${" "}
      ${version.preferred === null
        ? t(version.number === 1 ? "progress.first_version" : "progress.no_test")
        : t("progress.preferred", { share: percent(version.preferred) })}
    </p>
  </section>`;
}

function Whose({ values }) {
  return html`<section class="card stack" aria-labelledby="whose">
    <h2 id="whose">${t("progress.whose")}</h2>
    ${values.people === null
      ? html`<p class="quiet">${t("progress.few_raters")}</p>
          ${values.programs > 0 && html`<p>${t("page.programs_vote", { n: values.programs })}</p>`}`
      : html`<p class="big">${voters(values.people, values.programs)}</p>
          <p class="quiet">
            ${t("progress.concentrated", {
              share: percent(values.most_active, values.most_active < 0.1 ? 1 : 0),
              n: Math.round(values.effective),
            })}
          </p>`}
    <p><a href=${place(ofOperator ? "/operator/values" : "/values")}>${t("progress.whose_more")}</a></p>
  </section>`;
}

/** Before the first round: what will be here, and what brings it. */
function Empty() {
  const page = ["compare", "chat"].find((name) => config.pages.includes(name)) ?? "chat";
  return html`<section class="card stack empty" aria-labelledby="empty">
    <h2 id="empty">${t("progress.empty")}</h2>
    <p>${t("progress.empty_text")}</p>
    <ul class="will-be">
      ${["rounds", "ladder", "scores", "samples"].map(
        (part) => html`<li key=${part}><b>${t("progress.empty_part", { part: t(`progress.${part}`) })}</b> ${t(`progress.empty_${part}`)}</li>`,
      )}
    </ul>
    <p>
      <a class="button primary" href=${place(page === "chat" ? "/" : `/${page}`)}>
        ${t(has(`progress.go_${page}`) ? `progress.go_${page}` : "progress.go_chat")}
      </a>
    </p>
  </section>`;
}

mount(Progress);
