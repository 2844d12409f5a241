// The list of votes: totals that filter, a search, what became of each, taking one back.
import { html, useEffect, useRef, useState } from "../kit.js";
import { call } from "../call.js";
import { place } from "../config.js";
import { attempt, speak, toast } from "../page.js";
import { number, t } from "../words.js";
import { News } from "./news.js";
import { said, Vote } from "./vote.js";

const STATES = ["taught", "tested", "waiting", "alone", "nothing"];
const KINDS = ["thumb", "choice", "ranking", "demonstration", "retry"];
const SEARCH_MS = 250;
const ALL = { kind: null, state: null, query: "", page: 0 };

export function Votes() {
  const [wanted, setWanted] = useState(ALL);
  const [found, setFound] = useState(null);
  const [totals, setTotals] = useState(null);
  const [problem, setProblem] = useState("");
  const asked = useRef(0); // an answer that comes after a later one is not shown
  const load = async ({ kind, state, query, page } = wanted) => {
    const turn = (asked.current += 1);
    try {
      const next = await call("votes_found", kind, state, query, page);
      if (turn !== asked.current) return;
      setFound(next);
      setProblem("");
    } catch (error) {
      setProblem(error.message);
    }
  };
  useEffect(() => {
    const soon = setTimeout(() => load(), wanted.query ? SEARCH_MS : 0);
    return () => clearTimeout(soon);
  }, [wanted]);
  const count = () => call("votes_totals").then(setTotals, () => {}); // the list is whole without
  useEffect(() => {
    count();
  }, []);
  const filter = (change) => setWanted((old) => ({ ...old, page: 0, ...change }));

  const undo = (vote) =>
    attempt(async () => {
      await call("votes_undo", vote.kind, vote.id);
      await Promise.all([load(), count()]);
      const redo = () =>
        attempt(async () => {
          await call("votes_redo", vote.kind, vote.id);
          await Promise.all([load(), count()]);
          speak(t("votes.redone"));
        });
      toast(t("votes.undone", { said: said(vote) }), { undo: redo });
    });

  if (problem)
    return html`<p class="card bad" role="alert"><bdi>${problem}</bdi>${" "}
      <button type="button" class="button small" onClick=${() => load()}>${t("page.try_again")}</button></p>`;
  if (!found) return html`<p class="quiet">${t("page.loading")}</p>`;
  if (!found.given)
    return html`<div class="card empty stack"><p>${t("votes.none")}</p>
      <p><a class="button primary" href=${place("/")}>${t("votes.to_chat")}</a></p></div>`;
  return html`<${News} />
    <${Totals} given=${found.given} totals=${totals} state=${wanted.state} choose=${(state) => filter({ state })} />
    <${Filters} wanted=${wanted} filter=${filter} />
    <p class="quiet" role="status">${t("votes.found", { n: found.found })}</p>
    ${!found.found &&
    html`<div class="card empty stack"><p>${t("votes.none_found")}</p>
      <p><button type="button" class="button" onClick=${() => setWanted(ALL)}>${t("votes.show_all")}</button></p></div>`}
    <ul class="votes">
      ${found.votes.map((vote) => html`<${Vote} key=${vote.id} vote=${vote} undo=${() => undo(vote)} />`)}
    </ul>
    <${Paging} found=${found} turn=${(page) => filter({ page })} />`;
}

/** How many votes there are in each state; a tap shows these alone. */
function Totals({ given, totals, state, choose }) {
  const one = (name, count, on, act) => html`<li key=${name}><button type="button" class="total"
      aria-pressed=${on} onClick=${act}>
      <b class="number">${count === undefined ? "…" : number(count)}</b>
      <span>${name}</span></button></li>`;
  return html`<ul class="totals" aria-label=${t("votes.state")}>
      ${one(t("votes.given"), given, state === null, () => choose(null))}
      ${STATES.map((name) =>
        one(t(`votes.state.${name}`), totals?.by_state[name], state === name, () =>
          choose(state === name ? null : name),
        ),
      )}
    </ul>
    ${totals && html`<p class="quiet">${ahead(totals.ahead)}</p>`}`;
}

/** The votes of everybody for the next round, as the chat and the page of the progress say it. */
function ahead({ number: round, new: votes, needed, by_itself, running }) {
  if (running !== null) return t("votes.round_runs", { round: running });
  return t(by_itself ? "votes.ahead" : "votes.ahead_operator", { round, votes, needed });
}

function Filters({ wanted, filter }) {
  return html`<div class="row filters" role="search">
    <label class="field grow"><span>${t("votes.search")}</span>
      <input type="search" dir="auto" value=${wanted.query}
        onInput=${(event) => filter({ query: event.target.value })} /></label>
    <label class="field"><span>${t("votes.kind")}</span>
      <select value=${wanted.kind ?? ""} onChange=${(event) => filter({ kind: event.target.value || null })}>
        <option value="">${t("votes.kind.all")}</option>
        ${KINDS.map((kind) => html`<option key=${kind} value=${kind}>${t(`votes.kind.${kind}`)}</option>`)}
      </select></label>
  </div>`;
}

function Paging({ found: { page, pages }, turn }) {
  if (pages < 2) return null;
  const go = (to) => {
    turn(to);
    document.getElementById("main").scrollIntoView();
  };
  return html`<nav class="row paging" aria-label=${t("votes.paging")}>
    <button type="button" class="button" disabled=${page === 0} onClick=${() => go(page - 1)}>
      ${t("votes.later")}</button>
    <span class="quiet">${t("votes.page", { page: page + 1, pages })}</span>
    <button type="button" class="button" disabled=${page === pages - 1} onClick=${() => go(page + 1)}>
      ${t("votes.earlier")}</button>
  </nav>`;
}
