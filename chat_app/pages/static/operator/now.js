// The first screen: what is served, whether all is well, the cycle, and what people compare.
import { html, useState } from "../kit.js";
import { call } from "../call.js";
import { toast } from "../page.js";
import { Dialog, Meter } from "../parts.js";
import { duration, number, percent, said, t } from "../words.js";
import { alarmText } from "./alarm.js";
import { Act, Mark, Recorded, Waiting, lasting, size, time, version } from "./asking.js";
import { Training } from "./plots.js";
import { Trial } from "./trial.js";

export function Now({ view, problem, look, go }) {
  if (!view) return html`<${Waiting} />`;
  return html`<div class="first">
    <${Served} served=${view.served} trial=${view.trial} look=${look} />
    <${Health} condition=${view.condition} lost=${!!problem} go=${go} />
    <${Run} view=${view} look=${look} go=${go} />
    ${view.trial && html`<${Trial} trial=${view.trial} look=${look} className="card wide" />`}
  </div>`;
}

function Served({ served, trial, look }) {
  return html`<section class="card stack" aria-labelledby="served">
    <h2 id="served">${t("operator.serving")}</h2>
    <p class="large">${version(served.number, served.adapter)}</p>
    <p class="quiet">
      ${t("operator.since", { when: time(served.since), by: served.by })}${" "}
      <span class="pill">${served.adapter}</span>
    </p>
    ${served.preferred != null &&
    html`<p class="quiet">${t("operator.preferred", { share: percent(served.preferred) })}</p>`}
    ${served.forced && html`<${Forced} forced=${served.forced} />`}
    ${served.back
      ? html`<div><${Act} name="operate_roll_back" done=${look} ask=${rollback(served, trial)}>
          ${t(`operator.${way(served)}`, { number: served.back[1] })}
        <//></div>`
      : html`<p class="quiet">${t("operator.back.none")}</p>`}
  </section>`;
}

/** What was served before may be a newer version, after a rollback: then it is no way back. */
const way = (served) => (served.back[1] < served.number ? "back" : "again");

function rollback(served, trial) {
  const values = { number: served.back[1], now: served.number };
  const open = trial && trial.ended_at === null;
  return {
    title: t(`operator.${way(served)}.title`, values),
    yes: t("operator.back.yes", values),
    danger: true,
    text: [
      t("operator.back.text", values),
      t(open ? "operator.back.ends" : "operator.back.no_guard", values),
    ],
  };
}

/** A version that is served although the gate said no. */
export function Forced({ forced }) {
  return html`<div class="note bad-card">
    <p>
      <strong>${t("operator.forced")}</strong>${" "}
      ${t("operator.forced.by", { by: forced.by, when: time(forced.at) })}
    </p>
    ${forced.reasons.length > 0 &&
    html`<ul>
      ${forced.reasons.map((reason) => html`<li key=${reason}><${Recorded}>${reason}<//></li>`)}
    </ul>`}
  </div>`;
}

/** Alarms that need somebody; that a candidate was rejected is as it should be. */
export const urgent = (condition) => condition.alarms.filter((one) => one.kind !== "rejected");

function Health({ condition, lost, go }) {
  const { saves, disk_low, alive, ready } = condition;
  const alarms = urgent(condition);
  const well = !alarms.length && saves && !disk_low && ready;
  const engine = ready ? "ready" : alive ? "loading" : "dead";
  const unready = t(engine === "loading" ? "operator.engine.loading" : "operator.health.bad");
  const summary = well ? t("operator.health.good") : unready;
  const line = (good, text) =>
    html`<li><${Mark} state=${good ? "served" : "failed"} word=${text} /></li>`;
  return html`<section class="card stack" aria-labelledby="health">
    <h2 id="health">${t("operator.health")}</h2>
    <p class=${`large ${lost ? "bad" : ""}`}>${lost ? t("operator.health.lost") : summary}</p>
    ${lost && html`<p class="quiet">${t("operator.health.before")}</p>`}
    <ul class="plain">
      ${line(ready, t(`operator.engine.${engine}`))}
      ${line(saves, t(saves ? "operator.saves" : "operator.saves.not"))}
      ${line(
        !disk_low,
        t(disk_low ? "operator.disk.low" : "operator.disk", { free: size(condition.disk_free) }),
      )}
      ${line(!alarms.length, t("operator.alarms", { n: alarms.length }))}
    </ul>
    ${alarms.slice(-2).map((one) => html`<p class="bad" key=${one.id}>${alarmText(one)}</p>`)}
    ${alarms.length > 0 &&
    html`<div>
      <button type="button" class="button small" onClick=${() => go("alerts")}>
        ${t("operator.alarms.show")}
      </button>
    </div>`}
    <p class="quiet">
      ${t("operator.load", {
        rows: condition.rows,
        waiting: condition.waiting,
        size: size(condition.database),
      })}
    </p>
  </section>`;
}

function Run({ view, look, go }) {
  const [trying, setTrying] = useState(false);
  const [found, setFound] = useState(null);
  const dry = async () => {
    setTrying(true);
    try {
      setFound(await call("operate_dry_run"));
    } catch (error) {
      toast(error.message, { bad: true });
    }
    setTrying(false);
  };
  return html`<section class="card stack wide" aria-labelledby="run">
    <h2 id="run">${t("operator.cycle")}</h2>
    ${view.run ? html`<${Running} run=${view.run} look=${look} />` : html`<${Idle} view=${view} go=${go} />`}
    ${!view.run &&
    html`<div class="row">
      <${Act} name="operate_run" className="primary" done=${look} disabled=${view.state !== "idle"}>${t("operator.run")}<//>
      <button type="button" class="button" disabled=${trying} onClick=${dry}>
        ${t(trying ? "operator.dry.busy" : "operator.dry")}
      </button>
    </div>`}
    ${found && html`<${DryRun} found=${found} close=${() => setFound(null)} />`}
  </section>`;
}

function Idle({ view, go }) {
  const { next, last } = view;
  const waits = next.waits_for
    ? t("operator.next.waits", { what: said(next.waits_for) })
    : t("operator.next.now");
  const starting = view.state === "starting";
  return html`<p role="status">
      ${t(starting ? "operator.starting" : "operator.idle")}${" "}
      ${view.state === "idle" && (next.by_itself ? waits : t("operator.next.never"))}
    </p>
    <div>
      <${Meter} value=${next.new} most=${next.needed} label=${t("operator.evidence")} />
      ${!(next.by_itself && next.votes) &&
      html`<p class="quiet">
        ${t("operator.evidence.told", { new: number(next.new, 1), needed: next.needed })}
      </p>`}
    </div>
    ${last
      ? html`<p class="quiet">
          ${t("operator.last", { id: last.id, when: time(last.finished_at) })}${" "}
          <${Mark} state=${last.state} />${" "}
          ${last.state !== "rejected" && html`<${Recorded}>${last.reasons[0] ?? ""}<//>`}${" "}
          <a href=${`#rounds/${last.id}`}>${t("operator.report.read")}</a>
        </p>`
      : html`<p class="quiet">${t("operator.first", { count: view.comparisons })}</p>`}`;
}

function Running({ run, look }) {
  const at = run.stages.indexOf(run.stage);
  const left = run.left == null ? t("operator.left.unknown") : t("operator.left", { time: lasting(run.left) });
  return html`<p role="status">${t("operator.running", { id: run.id })} <strong>${t(`operator.stage.${run.stage}`)}</strong></p>
    <div>
      <${Meter} value=${run.progress} most=${1} label=${t("operator.progress")} />
      <p class="quiet number">${percent(run.progress)} · ${t("operator.elapsed", { time: duration(run.elapsed) })} · ${left}</p>
    </div>
    <ol class="stages">
      ${run.stages.map((stage, i) => html`<li key=${stage} aria-current=${i === at ? "step" : undefined} class=${i < at ? "done" : ""}>${t(`operator.stage.${stage}`)}</li>`)}
    </ol>
    ${run.curve.length > 1
      ? html`<${Training} scores=${run.curve.map((one) => one.score)} kls=${run.curve.map((one) => one.kl)} />`
      : html`<p class="quiet">${t("operator.curve.none")}</p>`}
    ${run.log && html`<p class="log"><span class="quiet">${t("operator.log")}</span> <code dir="ltr">${run.log}</code></p>`}
    <div><${Act} name="operate_cancel" done=${look} ask=${CANCEL}>${t("operator.cancel")}<//></div>`;
}

const CANCEL = {
  get title() { return t("operator.cancel.title"); },
  get yes() { return t("operator.cancel.yes"); },
  get no() { return t("operator.cancel.no"); },
  get text() { return [t("operator.cancel.text")]; },
  danger: true,
};

/** What a cycle would do now. */
function DryRun({ found, close }) {
  const { evidence, needed, split, iterations, plan } = found;
  const lines = [
    t("operator.dry.evidence", {
      decided: evidence.decided,
      ties: evidence.ties,
      thumbs: evidence.thumbs,
      effective: number(evidence.effective, 1),
      needed: needed.effective,
    }),
    t("operator.dry.new", { new: evidence.new, needed: needed.new }),
    t("operator.dry.sft", {
      demonstrations: evidence.demonstrations,
      needed: needed.demonstrations,
    }),
    t("operator.dry.split", {
      train: split.train,
      held: split.held_out,
      prompts: evidence.held_out_prompts,
      needed: needed.held_out_prompts,
    }),
    t("operator.dry.step", { planned: iterations.planned, most: iterations.most }),
    t("operator.dry.cost", { time: lasting(plan.hours * 3600), memory: number(plan.memory_gb, 1) }),
  ];
  return html`<${Dialog} title=${t("operator.dry.title")} close=${close}>
    ${found.refusal
      ? html`<p class="bad"><strong>${t("operator.dry.refused")}</strong> <${Recorded}>${found.refusal}<//></p>`
      : html`<p class="good"><strong>${t(found.resumes == null ? "operator.dry.starts" : "operator.dry.resumes", { id: found.resumes })}</strong></p>`}
    <ul>
      ${lines.map((line) => html`<li key=${line}>${line}</li>`)}
      ${found.left_out.map((line) => html`<li key=${line}><${Recorded}>${line}<//></li>`)}
    </ul>
    <p class="quiet">${t("operator.dry.nothing")}</p>
    <div class="row end"><button type="button" class="button primary" onClick=${close}>${t("page.close")}</button></div>
  <//>`;
}
