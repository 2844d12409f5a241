// The chat page: what is shown, and what each action of the person does.
import { html, mount, useEffect, useRef, useState } from "../kit.js";
import { call, follow } from "../call.js";
import { config, place } from "../config.js";
import { attempt, Page, speak, toast } from "../page.js";
import { said, t } from "../words.js";
import { Asked } from "./asked.js";
import { Composer, forgetDraft } from "./composer.js";
import { madeBy } from "./pair.js";
import { Menu, Sidebar } from "./sidebar.js";
import { News } from "../votes/news.js";
import { Transcript } from "./transcript.js";

const NONE = { conversations: [], more: false, passages: {} };
const EMPTY = { conversation_id: null, messages: [], pair: null, newest: null, writing: null };
const LISTED = 100; // conversations at once
const RETRY_MS = [500, 1000, 2000, 4000, 8000];
const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function Chat() {
  const [opening, setOpening] = useState(null); // what the server said first; null while it loads
  const [view, setView] = useState(EMPTY);
  const [sending, setSending] = useState(null); // a message on its way
  const [texts, setTexts] = useState(null); // what is written so far, by label
  const [behind, setBehind] = useState(false);
  const [offline, setOffline] = useState(false);
  const [consented, setConsented] = useState(false);
  const [drawer, setDrawer] = useState(false);
  const [gold, setGold] = useState(null); // one more comparison that is due
  const [gone, setGone] = useState(null); // the address names a conversation that is not there
  const [unsent, setUnsent] = useState(null); // a changed message that the server refused
  const [note, setNote] = useState(null); // what came of a choice, below the reply that goes on
  const [receipts, setReceipts] = useState([]); // what became of the votes here
  const now = useRef(view);
  now.current = view;

  // Conversations

  const setListed = (listed) => setOpening((old) => ({ ...old, listed }));
  const most = useRef(LISTED); // how many conversations are listed
  const refreshList = async () => setListed(await call("chat_conversations", "", most.current));
  const listMore = () => attempt(() => ((most.current += LISTED), refreshList()));

  const show = (next, { through = null, push = false } = {}) => {
    setGone(null);
    setUnsent(null);
    setView(next);
    setTexts(null);
    setBehind(false);
    address(next.conversation_id, next.conversation_id && through, { push });
  };

  const wanted = useRef(0); // counts what was asked for: a slow answer to anything older is dropped
  const load = async ({ conversation, through }) => {
    const mine = ++wanted.current;
    const first = await call("chat_opened", conversation, through);
    setOpening(first);
    setConsented(first.consented);
    if (wanted.current !== mine) return;
    show(first.view, { through });
    if (first.missing) setGone({ deleted: first.deleted });
  };

  const open = (id, { through = null, to = null, push = true } = {}) =>
    attempt(async () => {
      const mine = ++wanted.current;
      setDrawer(false);
      setSending(null);
      if (id === null) return show(EMPTY, { push });
      try {
        const view = await call("chat_open", id, through, to);
        if (wanted.current === mine) show(view, { through, push });
      } catch (problem) {
        if (wanted.current !== mine) return undefined;
        if (problem.kind !== "NotFoundError") throw problem;
        await load({ conversation: id, through }); // which says whether it was deleted
      }
      return undefined;
    });

  const restore = ({ id }) =>
    attempt(async () => {
      await call("chat_restore", id);
      await refreshList();
      await open(id);
    });

  /** Show what came in another tab; whoever uses the keyboard goes on from the newest message. */
  const catchUp = async () => {
    await open(now.current.conversation_id, { push: false });
    const newest = [...document.querySelectorAll(".transcript article")].at(-1);
    newest?.setAttribute("tabindex", "-1");
    newest?.focus();
  };

  useEffect(() => {
    attempt(() => load(asked()));
    const back = () => {
      const { conversation, through } = asked();
      open(conversation, { through, push: false });
    };
    const seen = () => document.visibilityState === "visible" && lookBehind();
    window.addEventListener("popstate", back);
    document.addEventListener("visibilitychange", seen);
    return () => {
      window.removeEventListener("popstate", back);
      document.removeEventListener("visibilitychange", seen);
    };
  }, []);

  const lookBehind = async () => {
    const { conversation_id, newest, writing } = now.current;
    if (!conversation_id || writing) return;
    const found = await call("chat_newest", conversation_id).catch(() => newest);
    if (now.current.newest === newest && found !== newest) setBehind(true);
  };

  // Replies

  useEffect(() => {
    if (!view.writing) return undefined;
    const ended = new AbortController();
    keepReading(view.writing, ended.signal);
    return () => ended.abort();
  }, [view.writing]);

  /** Read a reply to its end; after a lost connection, begin again from what the server has. */
  const keepReading = async (prompt, signal) => {
    for (let tries = 0; !signal.aborted; tries += 1) {
      try {
        await read(prompt, signal);
        setOffline(false);
        return;
      } catch (problem) {
        if (!problem.offline) {
          toast(problem.message, { bad: true });
          setView((old) => ({ ...old, writing: null }));
          return;
        }
        setOffline(true);
        await wait(RETRY_MS[Math.min(tries, RETRY_MS.length - 1)]);
      }
    }
  };

  const read = async (prompt, signal) => {
    const sofar = {};
    for await (const { added, view: after, sentence } of follow(prompt, { signal })) {
      if (signal.aborted) return;
      for (const [label, text] of Object.entries(added ?? {})) sofar[label] = (sofar[label] ?? "") + text;
      if (added) setTexts({ ...sofar });
      if (sentence) toast(said(sentence), { bad: true });
      if (after) {
        setView(after);
        setTexts(null);
        speak(after.pair ? t("chat.two_written") : after.messages.at(-1)?.content ?? "");
        refreshList().catch(() => {});
      } else if (sentence) {
        setView((old) => kept(old, sofar)); // what could not be stored is shown all the same
        setTexts(null);
      }
    }
  };

  /** Do what begins a reply; the message stays where it was if the server refuses it. */
  const begin = async (text, act) => {
    const mine = ++wanted.current;
    setSending(text);
    setBehind(false);
    try {
      const isNew = now.current.conversation_id === null;
      const next = await act();
      if (isNew) refreshList().catch(() => {});
      if (wanted.current !== mine) return true; // they went elsewhere; the reply is written all the same
      setGone(null);
      setTexts(null);
      setView(next);
      address(next.conversation_id, null, { push: isNew });
      return true;
    } catch (problem) {
      if (problem.kind === "BehindError") setBehind(true);
      else toast(problem.message, { bad: true });
      return false;
    } finally {
      if (wanted.current === mine) setSending(null);
    }
  };

  const send = async (text) => {
    const { conversation_id, messages, newest, pair } = now.current;
    const below = pair?.skipped ? pair.a.id : messages.filter(({ id }) => id).at(-1)?.id ?? null;
    const sent = await begin(text, () => call("chat_send", text, below, newest));
    if (sent) forgetDraft(conversation_id);
    return sent;
  };
  const edit = async (id, text) => {
    const before = now.current;
    setView({ ...before, messages: before.messages.slice(0, place_of(before, id)), pair: null });
    setUnsent(null);
    if (await begin(text, () => call("chat_edit", id, text))) return;
    setView(before);
    setUnsent({ id, text });
  };
  const again = (id) => begin(null, () => call("chat_again", id));
  const stop = () => attempt(() => call("chat_stop", now.current.writing));

  const refreshReceipts = async () => {
    const id = now.current.conversation_id;
    const found = id ? await call("votes_in_place", id).catch(() => null) : [];
    if (found && now.current.conversation_id === id) setReceipts(found);
  };
  useEffect(() => {
    setReceipts([]);
    refreshReceipts();
  }, [view.conversation_id, view.newest]);

  // Votes: the first one asks for consent where it is given, and is kept

  const agree = async () => {
    await call("chat_consent", true);
    setConsented(true);
  };
  const patch = (id, changes) =>
    setView((old) => ({
      ...old,
      messages: old.messages.map((one) => (one.id === id ? { ...one, ...changes } : one)),
    }));
  const voted = (id, changes) => {
    patch(id, changes);
    refreshReceipts();
  };
  /** Take a vote back, or give it again, and show the branch through a message as it is then. */
  const undo = (vote, name = "votes_undo", through = now.current.messages.at(-1).id) =>
    attempt(async () => {
      await call(name, vote.kind, vote.id);
      setNote(null);
      setView(await call("chat_open", now.current.conversation_id, through, null));
      refreshReceipts();
      if (name === "votes_undo")
        toast(t(vote.decides ? "chat.taken_back_decides" : "page.taken_back"), {
          undo: () => undo(vote, "votes_redo", through),
        });
    });

  const actions = {
    open: (through) => open(view.conversation_id, { through, push: false }),
    again,
    edit,
    agree,
    consented,
    undo,
    thumb: async (id, value, tags = null, comment = null) =>
      voted(id, { thumb: await call("chat_thumb", id, value, tags, comment) }),
    rewrite: async (id, text) => voted(id, { better: await call("chat_rewrite", id, text) }),
    compare: async (id, said) => {
      await call("chat_compare_with_before", id, said);
      voted(id, { before: null });
    },
    explain: (pair, tags, comment) => call("votes_explain", pair, tags, comment),
    choose: async (choice, seconds) => {
      const pair = view.pair.id;
      const chosen = await call("chat_choose", pair, choice, seconds);
      const text = `${t(`chat.chosen.${choice}`)} ${madeBy(chosen)}`;
      const { id } = chosen.view.messages.at(-1);
      setView(chosen.view);
      address(chosen.view.conversation_id, id); // the reply may not be the newest one
      setNote({ id, text, pair, choice });
      speak(text);
      refreshReceipts();
      setGold(await call("chat_asked"));
    },
    skip: () => setView((old) => ({ ...old, pair: { ...old.pair, skipped: true } })),
  };

  const busy = Boolean(view.writing) || sending !== null;
  const choosing = view.pair && !view.pair.skipped;
  return html`<${Page} here="chat" bar=${html`<${Menu} open=${() => setDrawer(true)} />`}>
    <div class="chat">
      <${Sidebar} listed=${opening?.listed ?? NONE} chosen=${view.conversation_id}
        drawer=${drawer} close=${() => setDrawer(false)} open=${open} restore=${restore}
        refresh=${refreshList} more=${listMore} />
      <main id="main" class="talk">
        <${News} />
        ${gone && html`<${Gone} deleted=${gone.deleted} restore=${restore} />`}
        ${opening &&
        html`<${Transcript} view=${view} texts=${texts} sending=${sending} opening=${opening}
          note=${note} receipts=${receipts} actions=${actions} example=${send} unsent=${unsent} />`}
        ${!opening && html`<p class="empty">${t("page.loading")}</p>`}
        ${gold && !busy && !choosing && // keys mean one choice alone
        html`<${Asked} key=${gold.id} asked=${gold} actions=${actions} close=${() => setGold(null)} />`}
        ${offline && html`<p class="notice wait" role="status">${t("chat.offline")}</p>`}
        ${behind &&
        html`<p class="notice row" role="status">${t("chat.behind")}
          <button type="button" class="button small" onClick=${catchUp}>${t("chat.show")}</button>
        </p>`}
        <${Composer} key=${view.conversation_id} conversation=${view.conversation_id}
          send=${send} stop=${view.writing ? stop : null} busy=${busy} locked=${Boolean(choosing)} />
        <p class="quiet small-print" dir="auto">${config.brand.notice ?? t("chat.stored")}${" "}
          <a href=${place("/votes#data")}>${t("chat.your_data")}</a>${" "}
          ${config.brand.policy &&
          html`<a href=${config.brand.policy} target="_blank" rel="noopener">${t("chat.policy")}</a>`}</p>
      </main>
    </div>
  <//>`;
}

/** Says that the address names no conversation, or one that can be restored. */
function Gone({ deleted, restore }) {
  return html`<p class="notice row" role="status">
    <span class="grow">${deleted ? t("chat.was_deleted", { title: deleted.title }) : t("chat.no_such")}</span>
    ${deleted &&
    html`<button type="button" class="button small" onClick=${() => restore(deleted)}>
      ${t("chat.restore")}</button>`}
  </p>`;
}

const place_of = (view, id) => view.messages.findIndex((one) => one.id === id);

/** The view with a reply that the server could not store. */
function kept(view, texts) {
  const reply = { id: "", role: "assistant", content: texts.a ?? "", siblings: [] };
  return { ...view, writing: null, messages: [...view.messages, reply] };
}

/** What the address asks for. */
function asked() {
  const query = new URLSearchParams(location.search);
  return { conversation: query.get("c"), through: query.get("m") };
}

function address(conversation, through, { push = false } = {}) {
  const query = new URLSearchParams();
  if (conversation) query.set("c", conversation);
  if (through) query.set("m", through);
  const next = `${place("/")}${query.size ? `?${query}` : ""}`;
  if (next === location.pathname + location.search) return;
  history[push ? "pushState" : "replaceState"](null, "", next);
}

mount(Chat);
