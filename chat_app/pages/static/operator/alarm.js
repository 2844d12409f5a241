// What an alarm or a check of the gate says: its number, the limit, and on which side is good.
import { number, percent, t } from "../words.js";

const many = (value) => number(value, 2);
const share = (value) => percent(value, Math.abs(value) < 0.1 ? 2 : 1);

/** An alarm in the page's language; what was recorded of it is in English. */
export function alarmText({ kind, value, limit }) {
  const shown = ["length", "length_drift", "starved", "erasures"].includes(kind) ? many : share;
  if (value == null) return t(`operator.alarm.said.${kind}`);
  return t(`operator.alarm.said.${kind}`, { value: shown(value), limit: shown(limit) });
}

const points = (value) => number(100 * value, 1);
const FORMS = [
  [/^probe_/, "probe", share],
  [/_by_rank_low$/, "rank", share],
  [/_increase$/, "increase", points],
  [/^held_out_prompts$/, "held_out_prompts", many],
  [/^kl$/, "kl", many],
  [/^(votes_chance|win_rate_low|same_length_low|empty_rate|same_rate)$/, null, share],
];

/** A check in the page's language; null if the page does not know it. */
export function checkText({ name, value, limit }) {
  const form = FORMS.find(([pattern]) => pattern.test(name));
  if (!form || limit == null) return null;
  const [, said, shown] = form;
  const measured = value == null ? t("operator.check.unmeasured") : shown(value);
  return t(`operator.check.said.${said ?? name}`, { value: measured, limit: shown(limit) });
}
