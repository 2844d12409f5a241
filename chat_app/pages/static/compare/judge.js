// Judging blind replies: one of two by a choice, three or more by their order.
import { html, useRef, useState } from "../kit.js";
import { call } from "../call.js";
import { Choices, chosenBy, Ordered, Skip, useKeys, useVote } from "../judging.js";
import { Chip } from "../parts.js";
import { t } from "../words.js";
import { Cards, Question } from "./cards.js";
import { groups, places, retied, toggled } from "./order.js";

const STRENGTHS = [1, 2, 3];

export function Judge({ shown, consented, judged, skip }) {
  const since = useRef(performance.now());
  const { vote, busy, asks } = useVote(consented, async ({ mine, send }, agree) => {
    const result = await send(agree);
    if (result.saved) judged(result, mine);
    return result.saved;
  });
  const save = (judgement) => busy || vote(judgement);
  const seconds = () => (performance.now() - since.current) / 1000;
  const leave = () => busy || skip();

  const Way = shown.replies.length === 2 ? Choose : Rank;
  return html`<${Question} prompt=${shown.prompt} />
    <${Way} shown=${shown} save=${save} skip=${leave} seconds=${seconds} busy=${busy}>${asks}<//>`;
}

function Choose({ shown, save, skip, seconds, busy, children }) {
  const [strength, setStrength] = useState(null);
  const choose = (choice) =>
    save({
      mine: { choice },
      send: (agree) => call("compare_choose", shown.id, choice, strength, seconds(), agree),
    });
  useKeys((key) => chosenBy(key, { choose, skip }));
  return html`<${Cards} replies=${shown.replies}
      head=${(label) => html`<h2>${label.toUpperCase()}</h2>`} />
    <section class="bar stack" aria-label=${t("compare.which")}>
      <div class="row" role="group" aria-label=${t("compare.how_sure")}>
        <span class="quiet ask-sure">${t("compare.how_sure")}</span>
        ${STRENGTHS.map(
          (one) => html`<${Chip} key=${one} on=${strength === one}
              toggle=${() => setStrength(strength === one ? null : one)}>
            ${t(`compare.sure.${one}`)}<//>`,
        )}
        <span class="quiet hint">${t("compare.if_you_like")}</span>
      </div>
      <${Choices} choose=${choose} skip=${skip} busy=${busy} />
      ${children}
    </section>`;
}

function Rank({ shown, save, skip, busy, children }) {
  const [order, setOrder] = useState([]); // {label, tied}: tied is as good as the one before
  const labels = shown.replies.map(({ label }) => label);
  const place = places(order);
  const rest = labels.filter((label) => !(label in place));
  const tap = (label) => setOrder((old) => toggled(old, label)); // keys may come faster than frames
  const tie = () => setOrder(retied);
  const undo = () => setOrder((old) => old.slice(0, -1));
  const store = () => {
    if (!order.length) return;
    const all = rest.reduce((old, label, at) => [...old, { label, tied: at > 0 }], order);
    const send = (agree) => call("compare_rank", shown.id, groups(all), agree);
    save({ mine: { place: places(all) }, send });
  };
  useKeys((key) => {
    const label = labels[/^[1-9]$/.test(key) ? Number(key) - 1 : labels.indexOf(key)];
    if (label) tap(label);
    else if (key === "=") tie();
    else if (key === "backspace") undo();
    else if (key === "enter" && !rest.length) store();
    else if (key === "s") skip();
    else return false;
    return true;
  });
  const head = (label) => {
    const name = label.toUpperCase();
    const said = label in place
      ? t("compare.ranked", { label: name, place: place[label] })
      : t("compare.rank_one", { label: name });
    return html`<button type="button" class="button place" aria-pressed=${label in place}
        aria-label=${said} aria-keyshortcuts=${label.toUpperCase()} onClick=${() => tap(label)}>
      ${name}</button>
      ${label in place && html`<span class="pill number">${t("compare.place", { place: place[label] })}</span>`}`;
  };
  return html`<${Cards} replies=${shown.replies} head=${head} tap=${tap}
      marked=${(label) => label in place} />
    <section class="bar stack" aria-label=${t("compare.rank")}>
      <div class="row apart">
        <h2>${t("compare.rank")}</h2>
        <p class="order number" role="status" aria-label=${t("compare.order")}>
          ${order.length === 0 && html`<span class="quiet">${t("compare.nothing_yet")}</span>`}
          <${Ordered} groups=${groups(order)} />
        </p>
      </div>
      <div class="row choices">
        <button type="button" class="button" disabled=${order.length < 2} aria-keyshortcuts="="
            aria-pressed=${Boolean(order.at(-1)?.tied)} onClick=${tie}>
          ${t("compare.tie_last")} <kbd aria-hidden="true">=</kbd></button>
        <button type="button" class="button" disabled=${!order.length} aria-keyshortcuts="Backspace"
            onClick=${undo}>${t("compare.undo")} <kbd aria-hidden="true">⌫</kbd></button>
        <button type="button" class="button primary" disabled=${busy || !order.length}
            aria-keyshortcuts=${rest.length ? undefined : "Enter"} onClick=${store}>
          ${t(rest.length > 1 && order.length ? "compare.rest_last" : "compare.save")}
          ${!rest.length && html`<kbd aria-hidden="true">↵</kbd>`}</button>
        <${Skip} skip=${skip} />
      </div>
      ${children}
    </section>`;
}
