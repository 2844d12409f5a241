// Compare: ask one question, judge several blind replies, see who wrote them, go on.
import { html, mount, useEffect, useRef, useState } from "../kit.js";
import { call } from "../call.js";
import { attempt, Page, speak, toast } from "../page.js";
import { Meter } from "../parts.js";
import { t } from "../words.js";
import { Ask, kept, keep } from "./ask.js";
import { Judge } from "./judge.js";
import { Revealed } from "./revealed.js";
import { Question } from "./cards.js";

const RUN = 5;
const PATIENCE_MS = 150; // then a person who waits for the server is told so
const RETRY_MS = [500, 1000, 2000, 4000, 8000];
const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function Compare() {
  const [view, setView] = useState(null); // what the server said first; null while it loads
  const [ideas, setIdeas] = useState([]);
  const [writing, setWriting] = useState(null); // {prompt, n, done}
  const [shown, setShown] = useState(null); // blind replies
  const [told, setTold] = useState(null); // what came of the judgement of those
  const [alike, setAlike] = useState(null);
  const [run, setRun] = useState(null); // {at, of}: so many of the "5 more" are judged
  const [round, setRound] = useState(null); // {before, now}: the votes for it, when all are judged
  const [consented, setConsented] = useState(false);
  const [offline, setOffline] = useState(false);
  const heading = useRef();
  const turn = useRef(0); // of what is followed: an earlier one is not shown any more
  const asked = useRef(false); // a question is on its way to the server

  const focus = () => requestAnimationFrame(() => heading.current?.focus());

  useEffect(() => {
    attempt(async () => {
      const first = await call("compare_open");
      setView(first);
      setIdeas(first.suggestions);
      setConsented(first.consented);
      if (first.shown) show(first.shown);
      if (first.writing) follow(first.writing);
    });
  }, []);

  const show = (replies) => {
    setWriting(null);
    setTold(null);
    setShown(replies);
    const two = replies.replies.length === 2;
    speak(two ? t("compare.ready.two") : t("compare.ready.many", { n: replies.replies.length }));
    focus();
  };

  const clear = () => {
    turn.current += 1;
    for (const set of [setWriting, setShown, setTold, setAlike]) set(null);
  };

  const ask = async (prompt) => {
    if (asked.current) return;
    asked.current = true;
    const n = Math.min(kept("n", 2), view.most);
    const opponent = view.opponents.find(({ adapter }) => adapter === kept("opponent", null));
    const waits = () => {
      clear();
      setWriting({ prompt, n, done: 0 });
      focus();
    };
    const waiting = setTimeout(waits, PATIENCE_MS);
    const begun = await attempt(() => call("compare_ask", prompt, n, opponent?.adapter ?? null));
    clearTimeout(waiting);
    asked.current = false;
    clear();
    keep("draft", begun ? null : prompt);
    if (begun?.writing) {
      follow(begun.writing);
      focus();
    } else if (begun) arrived(begun);
  };

  /** What became of a question: replies to judge, or nothing to compare. */
  const arrived = ({ shown: replies, alike: text }) => {
    setWriting(null);
    if (replies) show(replies);
    else if (text !== null) setAlike(text);
  };

  /** Wait until the replies are complete, also over a lost connection. */
  const follow = async (begun) => {
    const mine = (turn.current += 1);
    setWriting(begun);
    let { done } = begun;
    for (let tries = 0; turn.current === mine; ) {
      try {
        const found = await call("compare_follow", done);
        if (turn.current !== mine) return;
        tries = 0;
        setOffline(false);
        if (found.writing) {
          ({ done } = found.writing);
          setWriting(found.writing);
          continue;
        }
        return arrived(found);
      } catch (problem) {
        if (!problem.offline) {
          toast(problem.message, { bad: true });
          return clear();
        }
        setOffline(true);
        await wait(RETRY_MS[Math.min(tries++, RETRY_MS.length - 1)]);
      }
    }
  };

  const stop = () =>
    attempt(async () => {
      keep("draft", writing.prompt);
      await call("compare_stop");
      clear();
      toast(t("compare.stopped"));
    });

  const judged = (result, mine) => {
    setTold({ ...result, mine });
    setIdeas(result.suggestions);
    setConsented(true);
    if (run && result.authors.length) {
      setRun(({ at, of }) => ({ at: at + 1, of }));
      if (run.at + 1 === run.of) count("now");
    }
    const saved = t(result.earlier ? "compare.earlier" : "compare.thanks");
    speak(saved);
    focus();
  };

  /** Take the judgement back, or let it count again; these replies are not judged anew. */
  const undo = () =>
    attempt(async () => {
      const kind = shown.replies.length === 2 ? "choice" : "ranking";
      await call(told.undone ? "votes_redo" : "votes_undo", kind, told.vote);
      setTold((old) => ({ ...old, undone: !told.undone }));
      setRun((old) => old && { ...old, at: Math.max(0, old.at + (told.undone ? 1 : -1)) });
      speak(t(told.undone ? "compare.counts_again" : "page.taken_back"));
    });
  const explain = async (tags, comment) => {
    const why = await call("votes_explain", shown.id, tags, comment);
    setTold((old) => (old?.vote === told.vote ? { ...old, why } : old));
  };

  const skip = async () => {
    const next = await attempt(() => call("compare_skip", shown.id));
    if (!next) return;
    setIdeas(next);
    if (run) await ask(next[0]);
    else clear();
  };

  /** Ask the next suggested question at once; a run of five begins with the first. */
  const more = () => {
    if (!run || run.at >= run.of) {
      setRun({ at: 0, of: RUN });
      setRound(null);
      count("before");
    }
    return told?.asked ? show(told.asked) : ask(ideas[0]);
  };
  /** Note how many votes the next round has; without an answer nothing is said of it. */
  const count = async (when) => {
    const found = await call("compare_round").catch(() => null);
    setRound((old) => ({ ...old, [when]: found }));
  };
  const own = () => {
    setRun(null);
    clear();
    focus();
  };
  const suggest = () => attempt(async () => setIdeas(await call("compare_suggest")));

  const asking = view && !writing && !shown && alike === null;
  return html`<${Page} here="compare">
    <main id="main" class="page compare">
      <div class="row apart">
        <h1 tabindex="-1" ref=${heading}>${t("compare.title")}</h1>
        ${run && html`<span class="pill number">${t("compare.run", {
          at: Math.min(run.at + (told ? 0 : 1), run.of), of: run.of })}</span>`}
      </div>
      ${!view && html`<p class="empty">${t("page.loading")}</p>`}
      ${asking && html`<${Ask} view=${view} ideas=${ideas} ask=${ask} suggest=${suggest} />`}
      ${writing && html`<${Writing} ...${writing} stop=${stop} offline=${offline} />`}
      ${alike !== null && html`<${Alike} text=${alike} more=${more} own=${own} />`}
      ${shown && !told &&
      html`<${Judge} key=${shown.id} shown=${shown} consented=${consented} judged=${judged}
        skip=${skip} />`}
      ${shown && told &&
      html`<${Revealed} shown=${shown} told=${told} run=${run} round=${round} next=${ideas[0]}
        reasons=${view.reasons} more=${more} own=${own} undo=${undo} explain=${explain} />`}
    </main>
  <//>`;
}

function Writing({ prompt, n, done, stop, offline }) {
  const text = t("compare.written", { n, done });
  return html`<${Question} prompt=${[["user", prompt]]} />
    <section class="card stack" aria-label=${text}>
      <div class="row apart">
        <strong role="status">${text}</strong>
        <button type="button" class="button" onClick=${stop}>${t("compare.stop")}</button>
      </div>
      <${Meter} value=${done} most=${n} label=${text} />
      <p class="quiet">${t("compare.blind")}</p>
      ${offline && html`<p class="wait" role="status">${t("compare.offline")}</p>`}
    </section>`;
}

function Alike({ text, more, own }) {
  return html`<section class="stack">
    <p>${t("compare.alike")}</p>
    <div class="card text plain" dir="auto">${text}</div>
    <div class="row">
      <button type="button" class="button primary" onClick=${more}>${t("compare.next")}</button>
      <button type="button" class="button" onClick=${own}>${t("compare.own")}</button>
    </div>
  </section>`;
}

mount(Compare);
