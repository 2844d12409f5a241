// What the next round waits for, and about how long.
import { html } from "../kit.js";
import { Meter } from "../parts.js";
import { percent, t } from "../words.js";

export function NextRound({ next }) {
  const runs = next.waits === "runs";
  return html`<section class="card stack" aria-labelledby="next">
    <h2 id="next">${t(runs ? "progress.round_runs" : "progress.next")}</h2>
    <p class="big">
      ${runs
        ? percent(next.progress)
        : t("progress.votes_of", { votes: next.votes, needed: next.needed })}
    </p>
    <${Meter} label=${t(runs ? "progress.done" : "progress.votes_counted")}
        value=${runs ? next.progress : next.votes} most=${runs ? 1 : next.needed} />
    <p class="quiet">${told(next)}</p>
  </section>`;
}

function told(next) {
  if (next.waits === "runs") {
    return next.seconds_left === null
      ? t("progress.runs")
      : `${t("progress.runs")} ${t("progress.left", { time: about(next.seconds_left / 3600) })}`;
  }
  if (next.waits !== "votes") return t(`progress.waits_${next.waits}`);
  const left = next.hours === null ? "" : ` ${t("progress.rate", { time: about(next.hours) })}`;
  return t("progress.waits_votes") + left;
}

/** Hours in round words. */
function about(hours) {
  if (hours >= 36) return t("progress.days", { n: Math.round(hours / 24) });
  if (hours >= 1.5) return t("progress.hours", { n: Math.round(hours) });
  return t("progress.minutes", { n: Math.max(1, Math.round(hours * 60)) });
}
