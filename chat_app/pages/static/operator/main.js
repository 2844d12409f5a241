// The operator page: its tabs, which are addresses, and the first screen above them all.
import { html, mount, useEffect, useState } from "../kit.js";
import { config, place } from "../config.js";
import { call } from "../call.js";
import { Language, Notices } from "../page.js";
import { Tabs } from "../parts.js";
import { t } from "../words.js";
import { Now, urgent } from "./now.js";
import { Rounds } from "./rounds.js";
import { Versions } from "./versions.js";
import { Raters } from "./raters.js";
import { Data } from "./data.js";
import { Settings } from "./settings.js";
import { Alerts, Audit, Backups } from "./records.js";

const POLL_MS = 2000;
const TABS = {
  now: Now,
  rounds: Rounds,
  versions: Versions,
  raters: Raters,
  data: Data,
  settings: Settings,
  audit: Audit,
  alerts: Alerts,
  backups: Backups,
};

function Operator() {
  const [tab, rest, go] = useAddress();
  const [view, problem, look] = useNow();
  useEffect(() => {
    document.getElementById(`tab-${tab}`)?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }, [tab]);
  const alarms = view ? urgent(view.condition).length : 0;
  const tabs = Object.keys(TABS).map((id) => ({
    id,
    name:
      id === "alerts" && alarms
        ? t("operator.tab.alerts.some", { count: alarms })
        : t(`operator.tab.${id}`),
  }));
  const Shown = TABS[tab];
  return html`<a class="skip" href="#main">${t("page.skip")}</a>
    <header class="top">
      <a class="brand" href=${place("/operator/")}>
        <img src=${config.brand.logo} alt="" width="26" height="26" />
        <span dir="auto">${t("operator.brand", { name: config.brand.name })}</span>
      </a>
      <nav aria-label=${t("page.pages")}>
        <a href=${place("/")}>${t("page.chat")}</a>
        <a href=${place("/operator/progress")}>${t("page.progress")}</a>
      </nav>
      <${Language} />
      <form method="post" action=${place("/operator/logout")}>
        <button type="submit" class="button quiet">${t("operator.log_out")}</button>
      </form>
    </header>
    <main class="page operator" id="main" tabindex="-1">
      <h1 class="sr">${t("operator.heading")}</h1>
      <${Tabs} tabs=${tabs} chosen=${tab} choose=${go} label=${t("operator.tabs")} />
      ${problem && html`<${Lost} problem=${problem} />`}
      <section role="tabpanel" id=${`panel-${tab}`} aria-labelledby=${`tab-${tab}`} class="stack wide">
        <${Shown} key=${tab} view=${view} problem=${problem} look=${look} rest=${rest} go=${go} />
      </section>
    </main>
    <${Notices} />`;
}

function Lost({ problem }) {
  return html`<p class="card bad-card" role="alert">
    <bdi>${problem}</bdi> <a href=${place("/operator/login")}>${t("operator.log_in")}</a>
  </p>`;
}

/** The tab of the address and what follows it, as in `#rounds/3`; and how to go to another. */
function useAddress() {
  const read = () => location.hash.slice(1).split("/");
  const [parts, setParts] = useState(read);
  useEffect(() => {
    const changed = () => setParts(read());
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  const tab = parts[0] in TABS ? parts[0] : "now";
  return [tab, parts.slice(1).map(decodeURIComponent), (to) => (location.hash = to)];
}

/** The first screen's facts, asked for every two seconds while the page is visible. */
function useNow() {
  const [view, setView] = useState(null);
  const [problem, setProblem] = useState("");
  const look = async () => {
    try {
      setView(await call("operate_now"));
      setProblem("");
    } catch (error) {
      setProblem(error.message);
    }
  };
  useEffect(() => {
    let timer;
    let ended = false;
    const again = async () => {
      if (document.visibilityState === "visible") await look();
      if (!ended) timer = setTimeout(again, POLL_MS);
    };
    const seen = () => document.visibilityState === "visible" && look();
    document.addEventListener("visibilitychange", seen);
    again();
    return () => {
      ended = true;
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", seen);
    };
  }, []);
  return [view, problem, look];
}

mount(Operator);
